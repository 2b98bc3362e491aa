//! Programs run inside a running container.

use crate::container_config::StrSlice;

wire! {
    /// `POST /containers/{id}/exec`.
    pub struct ExecConfig {
        user: String = "User";
        privileged: bool = "Privileged";
        tty: bool = "Tty";
        /// Height, width; since API 1.42.
        console_size: Option<[u32; 2]> = "ConsoleSize" omitempty;
        attach_stdin: bool = "AttachStdin";
        attach_stderr: bool = "AttachStderr";
        attach_stdout: bool = "AttachStdout";
        detach_keys: String = "DetachKeys";
        env: Option<Vec<String>> = "Env";
        working_dir: String = "WorkingDir";
        cmd: Option<StrSlice> = "Cmd";
        /// Sent by older clients; `start` decides.
        detach: bool = "Detach" omitempty;
    }

    /// An id.
    pub struct IdResponse {
        id: String = "Id";
    }

    /// `POST /exec/{id}/start`.
    pub struct ExecStartConfig {
        detach: bool = "Detach";
        tty: bool = "Tty";
        /// Height, width; since API 1.42.
        console_size: Option<[u32; 2]> = "ConsoleSize" omitempty;
    }

    /// `GET /exec/{id}/json`.
    pub struct ExecInspect {
        id: String = "ID";
        running: bool = "Running";
        /// None while it runs or before it started.
        exit_code: Option<i64> = "ExitCode";
        process_config: ExecProcessConfig = "ProcessConfig";
        open_stdin: bool = "OpenStdin";
        open_stderr: bool = "OpenStderr";
        open_stdout: bool = "OpenStdout";
        can_remove: bool = "CanRemove";
        container_id: String = "ContainerID";
        /// Base64 of the key bytes.
        detach_keys: String = "DetachKeys";
        pid: i64 = "Pid";
    }

    /// What an exec runs.
    pub struct ExecProcessConfig {
        tty: bool = "tty";
        entrypoint: String = "entrypoint";
        arguments: Vec<String> = "arguments";
        privileged: Option<bool> = "privileged" omitempty;
        user: String = "user" omitempty;
    }
}
