//! Credentials of AWS from a program that a profile names, and from a session of SSO.

use std::path::Path;

use serde_json::json;

use super::kms::{asked_with, recorded};

struct Home(tempfile::TempDir);

impl Home {
    fn new(config: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.write(".aws/config", config);
        home
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.0.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What KMS was asked with, for a profile.
    async fn asked(&self, profile: &str, more: &[(&str, String)]) -> Result<String, String> {
        let own = [
            ("HOME", self.path().display().to_string()),
            ("AWS_PROFILE", profile.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        asked_with(&[&own[..], more].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_the_profile_prints_credentials() {
    let home = Home::new("");
    let program = home.write(
        "give me",
        "#!/bin/sh\necho not-to-be-shown >&2\ncase \"$1\" in\n\
         good) echo '{\"Version\": 1, \"AccessKeyId\": \"PROGRAM\", \"SecretAccessKey\": \"s\", \"SessionToken\": \"of-the-session\", \
         \"Expiration\": \"2099-01-01T00:00:00Z\"}';;\n\
         old) echo '{\"Version\": 1, \"AccessKeyId\": \"PROGRAM\", \"SecretAccessKey\": \"s\", \"Expiration\": \"2001-01-01T00:00:00Z\"}';;\n\
         other) echo '{\"Version\": 2}';;\nnonsense) echo nonsense;;\n*) exit 7;;\nesac\n",
    );
    // Run by the shell: a file that was just written may be busy while another test starts a process.
    let mut config = String::new();
    for mode in ["good", "old", "other", "nonsense", "failing"] {
        config.push_str(&format!("[profile {mode}]\ncredential_process = /bin/sh \"{program}\" {mode}\n"));
    }
    config.push_str("[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = good\n");
    config
        .push_str("[profile mfa]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = good\nmfa_serial = m\n");
    config.push_str(
        "[profile open]\ncredential_process = \"x\n[profile none]\ncredential_process = /no/such program\n",
    );
    home.write(".aws/config", &config);
    assert_eq!(home.asked("good", &[]).await.unwrap(), "PROGRAM with a token");
    for (profile, told) in [
        ("old", "have ended"),
        ("other", "another version"),
        ("nonsense", "no JSON"),
        ("failing", "exit status: 7"),
        ("open", "open quote"),
        ("none", "cannot start `/no/such`"),
        ("mfa", "MFA"),
    ] {
        let error = home.asked(profile, &[]).await.unwrap_err();
        assert!(error.contains(told) && !error.contains("not-to-be-shown"), "{profile}: {error}");
    }
    let sts = "<R><AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey></R>";
    let (sts, _, asked) = recorded(vec![(200, sts.into())]).await;
    assert_eq!(home.asked("role", &[("AWS_ENDPOINT_URL_STS", sts)]).await.unwrap(), "ROLE");
    assert!(asked.lock().unwrap()[0].contains("Credential=PROGRAM/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_sso_is_exchanged_and_a_missing_one_told_with_the_command() {
    let home = Home::new(
        "[profile dev]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Reader\n\
         [sso-session corp]\nsso_start_url = https://corp.example.com/start/\nsso_region = eu-west-1\n\
         [profile old]\nsso_start_url = https://old.example.com/start\nsso_region = eu-west-1\nsso_account_id = 1\n\
         sso_role_name = Reader\n[profile half]\nsso_start_url = https://corp.example.com/start\nsso_region = eu-west-1\n",
    );
    home.write(
        ".aws/sso/cache/botocore-client-id.json",
        "{\"clientId\": \"x\", \"expiresAt\": \"2099-01-01T00:00:00Z\"}",
    );
    home.write(".aws/sso/cache/broken.json", "{");
    let error = home.asked("dev", &[]).await.unwrap_err();
    assert!(error.contains("aws sso login --profile dev"), "{error}");
    let session = |start: &str, end: &str| {
        json!({"startUrl": start, "accessToken": "of-sso", "expiresAt": end}).to_string()
    };
    home.write(".aws/sso/cache/a.json", &session("https://corp.example.com/start", "2099-01-01T00:00:00UTC"));
    home.write(".aws/sso/cache/b.json", &session("https://old.example.com/start", "2001-01-01T00:00:00Z"));
    let role = json!({"roleCredentials": {"accessKeyId": "SSO", "secretAccessKey": "s", "sessionToken": "of-the-session",
                                          "expiration": 4_070_908_800_000_u64}});
    let (portal, _, asked) = recorded(vec![(200, role.to_string())]).await;
    let sso = |endpoint: &str| [("AWS_ENDPOINT_URL_SSO", endpoint.to_owned())];
    assert_eq!(home.asked("dev", &sso(&portal)).await.unwrap(), "SSO with a token");
    let call = asked.lock().unwrap()[0].clone();
    assert!(
        call.starts_with("GET /federation/credentials?role_name=Reader&account_id=111122223333 "),
        "{call}"
    );
    assert!(call.contains("x-amz-sso_bearer_token: of-sso"), "{call}");
    let error = home.asked("old", &sso(&portal)).await.unwrap_err();
    assert!(error.contains("aws sso login --profile old"), "{error}");
    assert!(home.asked("half", &[]).await.unwrap_err().contains("`sso_account_id`"));
    let (refusing, _, _) = recorded(vec![(401, "{}".into())]).await;
    let error = home.asked("dev", &sso(&refusing)).await.unwrap_err();
    assert!(error.contains("401") && error.contains("aws sso login") && !error.contains("of-sso"), "{error}");
}
