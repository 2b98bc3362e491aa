//! `login`: credentials of a registry, tried and kept.

use std::io::Read;

use berth_api::{AuthConfig, AuthResponse, ClientError};

use super::{Arity, Spec};
use crate::config::ConfigFile;
use crate::credentials::{DOCKER_HUB, Kept, key_of};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::limits::MAX_LINE;
use crate::prompt;
use crate::session::{self, Session};
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "",
    names: &["login"],
    top: &[],
    usage: "[OPTIONS] [SERVER]",
    about: "Log in to a registry",
    flags: || {
        vec![
            Flag::text("password", "Password or access token").short('p'),
            Flag::switch("password-stdin", "Read the password from standard input"),
            Flag::text("username", "User name").short('u'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtMost(1),
    run,
};

/// What the engine said about credentials.
type Answered = Result<AuthResponse, ClientError>;

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let user = parsed.text("username");
    let password = password(session, parsed)?;
    let key = key_of(parsed.operands.first().map_or("", String::as_str));
    if ConfigFile::variable_decides() {
        session
            .warning("DOCKER_AUTH_CONFIG is set, and decides about credentials as long as it is.");
    }
    if user.is_empty() && password.is_empty() {
        let stored = session.credentials(&key)?;
        if let Some(stored) = stored.filter(|auth| !auth.username.is_empty())
            && !stored.password.is_empty()
        {
            let shown = format!(
                "Authenticating with existing credentials... [Username: {}]\n",
                stored.username
            );
            session.warn(&shown);
            session.note(&format!(
                "To login with a different account, run '{name} logout' followed by '{name} login'",
                name = session.program.name()
            ));
            let again = AuthConfig {
                server_address: key.clone(),
                ..stored
            };
            match try_out(session, &again)? {
                Ok(answer) => return keep(session, again, answer),
                Err(error) if error.status() == Some(401) => {
                    session.warn("Stored credentials invalid or expired");
                }
                Err(error) => session.warn(&format!(
                    "Login did not succeed, error: {}",
                    session.explain(&error)
                )),
            }
        }
    }
    let auth = complete(session, &key, user, password)?;
    let answer = try_out(session, &auth)?.map_err(|error| session.failure(error))?;
    keep(session, auth, answer)
}

/// The password of the flags.
fn password(session: &Session, parsed: &Parsed) -> Result<String, Failure> {
    let from_input = parsed.switch("password-stdin");
    if parsed.given("password") {
        if from_input {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        session.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if parsed.text("password").trim().is_empty() {
            return Err(Failure::new("password is empty"));
        }
        return Ok(parsed.text("password").to_owned());
    }
    if !from_input {
        return Ok(String::new());
    }
    if parsed.text("username").is_empty() {
        return Err(Failure::new(
            "the --password-stdin option requires --username to be set",
        ));
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_LINE as u64)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("read the password: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok(text.to_owned())
}

/// Asks for what was not given.
fn complete(
    session: &Session,
    key: &str,
    user: &str,
    password: String,
) -> Result<AuthConfig, Failure> {
    let missing = user.is_empty() || password.is_empty();
    if missing && !terminal::input_is_terminal() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let hub = key == DOCKER_HUB;
    if hub && user.is_empty() && password.is_empty() {
        session.note(
            "logging in through a browser (device codes) is not offered by this version; use a password or a personal access token.",
        );
    }
    let mut user = user.trim().to_owned();
    if user.is_empty() {
        if hub {
            session::print(
                "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.\n",
            )?;
        }
        prompt::ask("Username: ")?.trim().clone_into(&mut user);
        if user.is_empty() {
            return Err(Failure::new("Error: Non-null Username Required"));
        }
    }
    let password = match password.as_str() {
        "" => prompt::ask_secret("Password: ")?,
        _ => password,
    };
    if password.is_empty() {
        return Err(Failure::new("Error: Password Required"));
    }
    Ok(AuthConfig {
        username: user,
        password,
        server_address: key.to_owned(),
        ..AuthConfig::default()
    })
}

/// Has the engine ask the registry.
fn try_out(session: &Session, auth: &AuthConfig) -> Result<Answered, Failure> {
    session.block_on(async { Ok(session.client()?.auth(auth).await) })
}

/// Keeps what the registry took.
fn keep(session: &Session, auth: AuthConfig, answer: AuthResponse) -> Result<(), Failure> {
    let mut auth = auth;
    if !answer.identity_token.is_empty() {
        auth.password = String::new();
        auth.identity_token = answer.identity_token;
    }
    let directory = session.config_directory();
    let kept = session
        .config()?
        .store(&directory, &auth)
        .map_err(|failure| Failure {
            message: format!("Error saving credentials: {}", failure.message),
            ..failure
        })?;
    if kept == Kept::InFile && !auth.password.is_empty() {
        session.warn(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            directory.join("config.json").display()
        ));
    }
    session::print(&format!("{}\n", answer.status))
}
