//! Two programs in one: a producer that makes a numbered item of work each second, and a consumer that takes them.
//!
//! | variable | means |
//! |---|---|
//! | `MODE` | `producer` or `consumer`; required |
//! | `PEER` | producer: `host:port` of a consumer to send the items to; without it they are only printed |
//! | `ITEMS` | producer: stop with exit code 0 after so many items; without it, never |
//! | `PORT` | consumer: the TCP port to listen on, 7000 if unset |
//!
//! The first process of a container gets no default signal handling from the kernel, so SIGTERM would be ignored
//! and every stop would last until the SIGKILL. Hence the one dependency, which catches it.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, process, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const ITEM_EVERY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    leave_on_signal()?;
    match env::var("MODE").as_deref() {
        Ok("producer") => produce(),
        Ok("consumer") => consume(),
        other => Err(format!("set MODE to producer or consumer (it is {})", other.unwrap_or("unset")).into()),
    }
}

fn leave_on_signal() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            println!("asked to stop, leaving");
            process::exit(0);
        }
    });
    Ok(())
}

fn produce() -> Result<(), Box<dyn Error>> {
    let peer = env::var("PEER").ok();
    let last: Option<u64> = match env::var("ITEMS") {
        Ok(items) => Some(items.parse().map_err(|_| format!("set ITEMS to a number (it is {items:?})"))?),
        Err(_) => None,
    };
    println!("producer started");
    let mut connection = None;
    for number in 1.. {
        if last.is_some_and(|last| number > last) {
            break;
        }
        let item = format!("item {number}");
        match &peer {
            None => println!("made {item}"),
            Some(peer) => match send(&mut connection, peer, &item) {
                Ok(()) => println!("made {item}, sent to {peer}"),
                Err(error) => println!("made {item}, lost it: {peer}: {error}"),
            },
        }
        thread::sleep(ITEM_EVERY);
    }
    println!("producer done");
    Ok(())
}

/// Sends one line, over the connection that is open or a new one; after an error the next item tries afresh.
fn send(connection: &mut Option<TcpStream>, peer: &str, item: &str) -> std::io::Result<()> {
    if connection.is_none() {
        let address = peer.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        *connection = Some(TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?);
    }
    let sent = match connection {
        Some(stream) => stream.write_all(format!("{item}\n").as_bytes()),
        None => Ok(()),
    };
    if sent.is_err() {
        *connection = None;
    }
    sent
}

fn consume() -> Result<(), Box<dyn Error>> {
    let port: u16 = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| format!("set PORT to a port number (it is {port:?})"))?,
        Err(_) => 7000,
    };
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("consumer listens on port {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            let from = stream.peer_addr().map_or_else(|_| "somebody".to_owned(), |address| address.to_string());
            println!("{from} connected");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                println!("took {line} from {from}");
            }
            println!("{from} left");
        });
    }
    Ok(())
}
