//! A list of words, written once: the type that is made of it has all of them in `ALL`, their text,
//! and the way back from text. The same text is stored, shown, counted and sent.

/// Declares an enum with a word for each variant. Its order is that of the variants.
macro_rules! vocabulary {
    (
        $(#[$about:meta])*
        $visible:vis enum $name:ident {
            $($(#[$of_one:meta])* $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visible enum $name {
            $($(#[$of_one])* $variant),+
        }

        impl $name {
            /// Every one.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// As it is stored, shown and counted.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// `None` for a word of another release.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|known| known.name() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                let unknown = || serde::de::Error::custom("a word of another release");
                Self::parse(&word).ok_or_else(unknown)
            }
        }
    };
}
pub(crate) use vocabulary;

#[cfg(test)]
mod tests {
    vocabulary! {
        /// Two.
        enum Word {
            Second = "second_word",
            First = "first",
        }
    }

    #[test]
    fn a_word_is_one_text_everywhere_and_an_unknown_one_is_an_error() {
        assert_eq!(Word::ALL.map(Word::name), ["second_word", "first"]);
        assert_eq!(format!("{:<6}|", Word::First), "first |");
        for word in Word::ALL {
            assert_eq!(Word::parse(word.name()), Some(word));
            let json = serde_json::to_value(word).unwrap();
            assert_eq!(json, word.name());
            assert_eq!(serde_json::from_value::<Word>(json).unwrap(), word);
        }
        assert_eq!(Word::parse("First"), None);
        assert!(serde_json::from_value::<Word>("third".into()).is_err());
    }
}
