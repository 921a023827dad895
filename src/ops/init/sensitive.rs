//! Names of fields that read like secrets or like what is said of a person.

use super::naming::words;

/// Words of which one is enough.
const SECRETS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "credential",
    "credentials",
    "apikey",
    "salt",
    "otp",
    "cvv",
    "cvc",
    "pin",
];

/// Words that are secrets side by side.
const SECRET_PAIRS: [(&str, &str); 5] =
    [("api", "key"), ("private", "key"), ("access", "key"), ("card", "number"), ("session", "id")];

const PEOPLE: [&str; 31] = [
    "email",
    "mail",
    "phone",
    "telephone",
    "mobile",
    "tel",
    "fax",
    "dob",
    "birthday",
    "birthdate",
    "birth",
    "born",
    "address",
    "street",
    "postcode",
    "zip",
    "zipcode",
    "nhs",
    "ssn",
    "nino",
    "passport",
    "iban",
    "gender",
    "sex",
    "ethnicity",
    "religion",
    "nationality",
    "surname",
    "firstname",
    "lastname",
    "fullname",
];

const PEOPLE_PAIRS: [(&str, &str); 10] = [
    ("first", "name"),
    ("last", "name"),
    ("full", "name"),
    ("middle", "name"),
    ("family", "name"),
    ("given", "name"),
    ("e", "mail"),
    ("post", "code"),
    ("zip", "code"),
    ("national", "insurance"),
];

/// What to know of a field before it is copied, if its path reads so.
pub fn warning(path: &[&str]) -> Option<&'static str> {
    let words: Vec<String> = path.iter().flat_map(|part| words(part)).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&&**word));
    let has_pair = |pairs: &[(&str, &str)]| {
        let mut beside = words.iter().zip(words.iter().skip(1));
        beside.any(|(one, other)| pairs.contains(&(&**one, &**other)))
    };
    if has(&SECRETS) || has_pair(&SECRET_PAIRS) {
        Some("! its name reads like a secret")
    } else if has(&PEOPLE) || has_pair(&PEOPLE_PAIRS) {
        Some("! its name reads like a person's data")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_word_by_word() {
        for name in ["password", "resetToken", "api_key", "APIKey", "cardNumber", "userPin"] {
            assert_eq!(warning(&[name]), Some("! its name reads like a secret"), "{name}");
        }
        for name in ["email", "e-mail", "nhsNumber", "firstName", "dateOfBirth", "mobilePhone"] {
            assert_eq!(warning(&[name]), Some("! its name reads like a person's data"), "{name}");
        }
        assert!(warning(&["address", "city"]).is_some());
        for name in ["tokenise", "pinned", "spinCount", "status", "name", "total", "mailbox"] {
            assert_eq!(warning(&[name]), None, "{name}");
        }
    }
}
