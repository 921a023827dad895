//! Recorders in place of Slack, Sentry and a heartbeat receiver, with a page that shows what was
//! received. `fakes [ADDRESS]`, 127.0.0.1:9500 unless said otherwise.

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9500".to_owned());
    match devstack::Fakes::listen(&address) {
        Ok(fakes) => {
            println!("recording at {}/", fakes.base());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("fakes: {address} cannot be listened on: {error}");
            std::process::exit(1);
        }
    }
}
