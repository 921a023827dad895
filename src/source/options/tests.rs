use super::*;
use crate::settings::{Origin, Secret, Settings};

/// `URI_OPTIONS` of the driver 3.9, and what its parser knows beside them.
const DRIVERS: &str = "appname authmechanism authsource authmechanismproperties compressors \
                       connecttimeoutms directconnection heartbeatfrequencyms journal \
                       localthresholdms maxidletimems maxstalenessseconds maxpoolsize \
                       minpoolsize maxconnecting proxyhost proxyport proxyusername \
                       proxypassword readconcernlevel readpreference readpreferencetags \
                       replicaset retrywrites retryreads servermonitoringmode \
                       serverselectiontimeoutms sockettimeoutms tls ssl tlsinsecure \
                       tlsallowinvalidcertificates tlscafile tlscertificatekeyfile \
                       uuidrepresentation w waitqueuetimeoutms wtimeoutms zlibcompressionlevel \
                       srvservicename adaptiveretries maxadaptiveretries loadbalanced \
                       srvmaxhosts tlscertificatekeyfilepassword enableoverloadretargeting";

fn read(uri: &str, change: impl FnOnce(&mut SourceSettings)) -> Result<Options, Fault> {
    let mut source = Settings::load(&Origin::default()).unwrap().source;
    source.uri = Secret::new(uri.to_owned());
    change(&mut source);
    Options::read(&source)
}

fn told(uri: &str) -> String {
    let read = read(uri, |_| {});
    read.map_or_else(|fault| fault.message, |options| format!("taken {}", options.idle.join(", ")))
}

#[test]
fn every_option_of_the_driver_is_decided_upon() {
    for name in DRIVERS.split_whitespace() {
        assert!(OPTIONS.iter().any(|(known, _)| *known == name), "{name}");
    }
    // Each that is refused is, and each that is taken is one the driver takes.
    let bad = "source.uri has an option after ? that the driver does not know";
    for (name, effect) in OPTIONS {
        let told = told(&format!("mongodb://localhost/?{name}=c4n4ry"));
        match effect {
            Refused(why) => assert!(told.contains(name) && told.contains(why), "{told}"),
            Honoured | Only(..) | Idle(_) => assert_ne!(told, bad),
        }
        // A path that cannot be read is named: without it nobody finds the file.
        let names_a_file = told.contains("which cannot be read");
        assert!(names_a_file || !told.contains("c4n4ry"), "{told}");
    }
    assert_eq!(told("mongodb://localhost/?c4n4ry=1"), bad);
    assert_eq!(
        told("mongodb://localhost/?readPreference=PRIMARY&readConcernLevel=majority&w=majority"),
        "taken "
    );
    assert!(
        told("mongodb://localhost/?readPreference=secondary")
            .contains("readpreference other than primary")
    );
    assert!(told("mongodb://localhost/?retryWrites=true").starts_with("taken retrywrites: "));
}

#[test]
fn what_is_wrong_with_a_uri_is_named_and_no_part_of_it_repeated() {
    for (uri, words) in [
        ("mongodb://user:c4n4ry%/x@h/", "has a % that"),
        ("mongodb://user:c4n4ry@@h/", "user or password"),
        ("mongodb://user:c4n4ry@h:port/", "hosts that cannot be used"),
        ("mongodb+srv://user:c4n4ry@h.example.org:1/", "hosts that cannot be used"),
        ("mongodb://user:c4n4ry@localhost/?tls=c4n4ry", "value of the option tls"),
        ("mongodb://user:c4n4ry@localhost/?maxPoolSize=c4n4ry", "value of the option maxpoolsize"),
        ("mongodb://user:c4n4ry@localhost/?appName=a&appName=b", "or one twice"),
        ("mongodb://c4n4ry@localhost/?authMechanism=MONGODB-AWS", "a user and no password"),
    ] {
        let told = told(uri);
        assert!(told.contains(words) && !told.contains("c4n4ry"), "{uri}: {told}");
    }
}

#[test]
fn a_host_beyond_this_machine_is_verified_unless_said_otherwise() {
    let insecure =
        |uri: &str| read(uri, |source| source.insecure = true).map(|options| options.guarded());
    for (uri, refused) in [
        ("mongodb://db/", "has no tls=true"),
        ("mongodb://localhost,db/", "has no tls=true"),
        ("mongodb+srv://db.example.org/?tls=false", "has no tls=true"),
        ("mongodb://db/?tlsInsecure=true", "takes any certificate"),
        ("mongodb://db/?tls=true&tlsAllowInvalidCertificates=true", "takes any certificate"),
    ] {
        assert!(told(uri).contains(refused), "{uri}: {}", told(uri));
        assert!(insecure(uri).is_ok(), "{uri}");
    }
    for uri in
        ["mongodb://localhost/", "mongodb://127.0.0.2,[::1]/", "mongodb://%2Ftmp%2Fmongo.sock/"]
    {
        assert_eq!(told(uri), "taken ");
    }
    assert!(
        told("mongodb://db/?tls=true&tlsCAFile=/none.pem")
            .contains("tlsCAFile /none.pem, which cannot be read")
    );
}
