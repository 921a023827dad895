//! Names of fields that read like secrets or like what is said of a person.

use super::naming::words;

/// Words of which one is enough.
const SECRETS: [&str; 18] = [
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
    "jwt",
    "bearer",
    "authorization",
    "authorisation",
];

/// Words that are secrets side by side.
const SECRET_PAIRS: [(&str, &str); 8] = [
    ("api", "key"),
    ("private", "key"),
    ("access", "key"),
    ("card", "number"),
    ("credit", "card"),
    ("debit", "card"),
    ("auth", "header"),
    ("session", "id"),
];

const PEOPLE: [&str; 35] = [
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
    "forename",
    "forenames",
    "maidenname",
    "gmc",
];

const PEOPLE_PAIRS: [(&str, &str); 11] = [
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
    ("maiden", "name"),
];

const SECRET: &str = "! its name reads like a secret: exclude it, or mask";

const PERSON: &str =
    "! its name reads like a person's data: exclude or mask, if nobody is to read it";

/// What to know of a field before it is copied, if its path reads so.
pub fn warning(path: &[&str]) -> Option<&'static str> {
    let words: Vec<String> = path.iter().flat_map(|part| words(part)).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&&**word));
    let has_pair = |pairs: &[(&str, &str)]| {
        let mut beside = words.iter().zip(words.iter().skip(1));
        beside.any(|(one, other)| pairs.contains(&(&**one, &**other)))
    };
    if has(&SECRETS) || has_pair(&SECRET_PAIRS) {
        Some(SECRET)
    } else if has(&PEOPLE) || has_pair(&PEOPLE_PAIRS) {
        Some(PERSON)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_word_by_word() {
        for name in [
            "password",
            "resetToken",
            "api_key",
            "APIKey",
            "cardNumber",
            "userPin",
            "credit_card",
            "authorization",
            "jwt",
        ] {
            assert_eq!(warning(&[name]), Some(SECRET), "{name}");
        }
        for name in [
            "email",
            "e-mail",
            "nhsNumber",
            "firstName",
            "dateOfBirth",
            "mobilePhone",
            "forename",
            "gmc_number",
        ] {
            assert_eq!(warning(&[name]), Some(PERSON), "{name}");
        }
        assert!(warning(&["address", "city"]).is_some());
        for name in ["tokenise", "pinned", "spinCount", "status", "name", "total", "mailbox"] {
            assert_eq!(warning(&[name]), None, "{name}");
        }
    }
}
