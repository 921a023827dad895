//! URLs as people write them.

use super::*;
use crate::settings::{Origin, Secret};

fn read(
    url: &str,
    change: impl FnOnce(&mut TargetSettings),
) -> Result<Vec<PgConnectOptions>, Fault> {
    let mut target = Settings::load(&Origin::default()).unwrap().target;
    target.url = Secret::new(url.to_owned());
    change(&mut target);
    of(&target)
}

fn places(url: &str) -> Vec<String> {
    let hosts = read(url, |target| target.insecure = true).unwrap();
    let place = |host: &PgConnectOptions| match host.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), host.get_port()),
        None => format!("{}:{}", host.get_host(), host.get_port()),
    };
    hosts.iter().map(place).collect()
}

fn refused(url: &str) -> String {
    read(url, |_| {}).map_or_else(|fault| fault.message, |_| "taken".to_owned())
}

#[test]
fn several_hosts_are_taken_in_the_order_given() {
    for (url, hosts) in [
        ("postgres://u:p@a:1,b:2,c/db", vec!["a:1", "b:2", "c:5432"]),
        ("postgres://u@h/db?host=a,b&port=1,2", vec!["a:1", "b:2"]),
        ("postgres://u@h/db?host=a,b&port=7", vec!["a:7", "b:7"]),
        ("postgres://u@h:9/db?host=/var/run/postgresql", vec!["/var/run/postgresql:9"]),
        ("postgres://u@%2Fvar%2Frun/db", vec!["/var/run:5432"]),
        ("postgres:///db?hostaddr=10.0.0.1,10.0.0.2", vec!["10.0.0.1:5432", "10.0.0.2:5432"]),
        ("postgres://u@[::1]:3,[fe80::2]/db", vec!["::1:3", "fe80::2:5432"]),
    ] {
        assert_eq!(places(url), hosts, "{url}");
    }
}

#[test]
fn user_and_database_are_decoded_and_what_follows_the_question_mark_wins() {
    let host = |url| read(url, |_| {}).unwrap().remove(0);
    let of =
        |url| (host(url).get_username().to_owned(), host(url).get_database().unwrap().to_owned());
    let pair = |user: &str, database: &str| (user.to_owned(), database.to_owned());
    assert_eq!(of("postgres://a%40b:p%2Fw@localhost/d%20b"), pair("a@b", "d b"));
    assert_eq!(of("postgres://a@localhost"), pair("a", "a"));
    assert_eq!(of("postgres://a@localhost/b?user=c&dbname=d"), pair("c", "d"));
    let options = host("postgres://a@localhost/b?options=-c%20work_mem%3D1MB%20--jit%3Doff");
    assert_eq!(options.get_options(), Some("-c work_mem=1MB -c jit=off"));
}

#[test]
fn what_is_wrong_with_a_url_is_named_and_no_part_of_it_repeated() {
    for (url, words) in [
        ("postgres://u:c4n4ry@h:port/d", "a port that is no number"),
        ("postgres://u:c4n4/ry@h/d", "a port that is no number"),
        ("postgres://u:c4n4ry#@h/d", "a #"),
        ("postgres://u:c4n4ry%@h/d", "a password that is not escaped"),
        ("postgres://u:c4n4ry@/d", "names no host"),
        ("postgres://u@localhost/d?c4n4ry=c4n4ry", "is not one of sslmode, "),
        ("postgres://u@localhost/d?sslmode=c4n4ry", "an sslmode that is not one of"),
        ("postgres://u@localhost/d?sslmode=require&sslrootcert=/x", "cannot be read"),
        ("postgres://u@localhost/d?sslcert=/x", "both are needed"),
        ("postgres://u@localhost/d?host=a,b,c&port=1,2", "another number of ports"),
        ("postgres://u@localhost/d?host=a&hostaddr=10.0.0.1", "both host and hostaddr"),
        ("postgres://u@localhost/d?hostaddr=c4n4ry", "a hostaddr that is no address"),
        (
            "postgres://u@localhost/d?application_name=c4n4ry",
            "application_name, which is without effect",
        ),
        ("postgres://u@localhost/d?sslmode=prefer&sslmode=prefer", "the parameter sslmode twice"),
        ("postgres://u@localhost/d?options=-cc4n4ry", "not written -c name=value"),
        ("postgres://u@localhost/d?target_session_attrs=any", "target_session_attrs other than"),
    ] {
        let told = refused(url);
        assert!(told.contains(words) && !told.contains("c4n4ry"), "{url}: {told}");
    }
    let both = |target: &mut TargetSettings| target.password_command = "pass".to_owned();
    assert!(read("postgres://u:p@localhost/d", both).is_err());
}

#[test]
fn a_host_beyond_this_machine_is_verified_unless_said_otherwise() {
    let modes = |url: &str, insecure: bool| {
        let hosts = read(url, |target| target.insecure = insecure);
        hosts.map(|hosts| {
            hosts
                .iter()
                .map(|host| format!("{:?}", host.get_ssl_mode()))
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    assert_eq!(
        modes("postgres://u@localhost,db,127.0.0.1/d", false).unwrap(),
        "Prefer VerifyFull Prefer"
    );
    assert_eq!(modes("postgres://u@db/d?sslmode=verify-full", false).unwrap(), "VerifyFull");
    for mode in ["disable", "prefer", "require", "verify-ca"] {
        let url = format!("postgres://u@localhost,db/d?sslmode={mode}");
        let fault = modes(&url, false).unwrap_err();
        assert!(fault.message.contains("target.insecure = true allows it"), "{fault}");
        assert!(modes(&url, true).is_ok());
    }
    assert_eq!(modes("postgres://u@db/d", true).unwrap(), "Prefer");
}
