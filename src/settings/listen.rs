//! Where the status is, read alone: a container's health does not hang on the rest of the
//! configuration, which may be in the middle of an edit, nor on a secret's file.

use std::net::SocketAddr;

use super::Settings;
use super::layers::Layers;
use super::origin::Origin;

impl Settings {
    /// `status.listen`, whatever is wrong with everything else; `None` if it is no address itself.
    pub fn listen(origin: &Origin) -> Option<SocketAddr> {
        Layers::collect(origin).leaves.get("status.listen")?.value.to_string().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Option<SocketAddr> {
        let folder = std::env::temp_dir().join(format!("tidemark-listen-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("tidemark.toml");
        std::fs::write(&file, text).unwrap();
        let found = Settings::listen(&Origin { file: Some(file), ..Origin::default() });
        std::fs::remove_dir_all(folder).unwrap();
        found
    }

    #[test]
    fn it_is_found_whatever_is_wrong_with_the_rest() {
        let here: SocketAddr = "127.0.0.9:1234".parse().unwrap();
        for rest in [
            "",
            "[source]\nuri_file = \"/nowhere\"\nuri = 7\n",
            "[nonsense]\nkey = 1\n",
            "[batch]\nevents_max = \n",
            "[[stream]]\nname = \"x\ncolumn = [\n  [1,\n",
        ] {
            let section = format!("[status] # here\n  listen = \"127.0.0.9:1234\"\n{rest}");
            assert_eq!(listen(&section), Some(here), "{section}");
            let dotted = format!("status.listen = \"127.0.0.9:1234\"\n{rest}");
            assert_eq!(listen(&dotted), Some(here), "{dotted}");
        }
        assert_eq!(listen("[status]\nlisten = \"nowhere\"\n"), None);
        assert_eq!(listen("= = =").map(|address| address.port()), Some(9464), "the default");
    }
}
