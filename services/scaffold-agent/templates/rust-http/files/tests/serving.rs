//! The server over real connections, and the program as a real process.

use std::{
    ffi::c_int,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use app::{
    healthcheck::is_healthy,
    server::{Server, Stop},
    settings::Settings,
};

struct Running {
    address: SocketAddr,
    stop: Stop,
    serving: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let settings = Settings {
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        let server = Server::bind(&settings).unwrap();
        Self {
            address: server.address(),
            stop: server.stop(),
            serving: Some(thread::spawn(move || server.serve())),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    /// Everything that comes until the server closes.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

#[test]
fn the_page_and_health_are_served() {
    let running = Running::start();
    let page = running.ask("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains(&format!("<h1>{}</h1>", app::settings::NAME)));
    let health = running.ask("GET /health HTTP/1.0\r\n\r\n");
    assert!(health.contains(r#""status":"ok""#), "{health}");
    assert!(is_healthy(running.address.port()));
}

#[test]
fn one_connection_serves_many_requests() {
    let running = Running::start();
    let two = "GET /health HTTP/1.1\r\n\r\nHEAD /nothing HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answers = running.ask(two);
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    assert!(answers.contains("HTTP/1.1 404 Not Found"));
}

#[test]
fn a_body_is_never_read_as_a_request() {
    let running = Running::start();
    let smuggled = "POST / HTTP/1.1\r\nContent-Length: 27\r\n\r\nGET /health HTTP/1.1\r\n\r\n...";
    let mut stream = running.connect();
    stream.write_all(smuggled.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Closing with unread bytes may reset the connection; what came before counts.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn nonsense_is_answered_with_400() {
    let answer = Running::start().ask("nonsense\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn stopping_does_not_wait_for_an_idle_connection() {
    let running = Running::start();
    let mut idle = running.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let port = running.address.port();
    // Hangs for 30 s, the patience with a silent connection, if it does wait.
    drop(running);
    assert!(!is_healthy(port));
}

extern "C" {
    fn kill(process: c_int, signal: c_int) -> c_int;
}

struct Program(Child);

impl Program {
    fn start(port: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_server"))
            .env("PORT", port)
            .env("HOST", "127.0.0.1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_serves_and_ends_with_code_0_on_sigterm() {
    let mut program = Program::start("0");
    let mut output = BufReader::new(program.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    assert!(is_healthy(port));
    // SAFETY: sends a signal to a child of ours that has not been waited for.
    assert_eq!(unsafe { kill(program.0.id() as c_int, 15) }, 0);
    assert!(program.0.wait().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("stopped\n"), "{rest}");
}

#[test]
fn a_port_that_cannot_be_used_ends_the_program_with_a_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (port, code, reason) in [("eighty", 64, "PORT is"), (&*taken, 1, "cannot listen")] {
        let mut program = Program::start(port);
        assert_eq!(program.0.wait().unwrap().code(), Some(code));
        let mut errors = String::new();
        let mut stderr = program.0.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert!(errors.contains(reason), "{errors}");
    }
}
