//! A proxy.
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::cluster::text;

/// A proxy on loopback that takes HTTP's CONNECT and SOCKS 5, and leads to this server whatever it is asked for.
/// Returns its address, and the hosts that it is asked for.
pub(crate) fn proxy_to(server: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (known, server) = (Arc::clone(&asked), server.to_owned());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut first = [0];
            client.read_exact(&mut first).unwrap();
            let host = if first == [5] { socks(&mut client) } else { connect(&mut client) };
            known.lock().unwrap().push(host);
            let mut server = TcpStream::connect(&server).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || io::copy(&mut server, &mut client));
        }
    });
    (address, asked)
}

/// The rest of the head of a CONNECT request; returns the host.
fn connect(client: &mut TcpStream) -> String {
    let (mut head, mut octet) = (String::from("C"), [0]);
    while !head.ends_with("\r\n\r\n") {
        client.read_exact(&mut octet).unwrap();
        head.push(char::from(octet[0]));
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned()
}

/// The rest of a greeting and a request of SOCKS 5 (RFC 1928) for a name; returns the host.
fn socks(client: &mut TcpStream) -> String {
    let methods = take(client, 1)[0];
    take(client, methods);
    client.write_all(&[5, 0]).unwrap();
    assert_eq!(take(client, 4), [5, 1, 0, 3], "a connection to a name");
    let length = take(client, 1)[0];
    let name = text(&take(client, length));
    let port = take(client, 2);
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    format!("{name}:{}", u16::from_be_bytes([port[0], port[1]]))
}

fn take(client: &mut TcpStream, number: u8) -> Vec<u8> {
    let mut octets = vec![0; usize::from(number)];
    client.read_exact(&mut octets).unwrap();
    octets
}
