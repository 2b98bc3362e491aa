//! An outside server: answers by what is in the name, and counts what it was asked.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::namespace::Namespace;

#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    /// Answers with 192.0.2.N.
    Answers(u8),
    /// Never answers.
    Silent,
}

pub(super) struct Server {
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(namespace: &Namespace, address: IpAddr, behaviour: Behaviour) -> Self {
        let at = SocketAddr::new(address, 53);
        let (udp, tcp) =
            namespace.run(|| (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap()));
        udp.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        tcp.set_nonblocking(true).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let by_udp = {
            let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut packet = [0; 4096];
                while !over.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = udp.recv_from(&mut packet) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        for reply in replies(&packet[..length], behaviour, false) {
                            udp.send_to(&reply, from).unwrap();
                        }
                    }
                }
            })
        };
        let by_tcp = {
            let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok((mut stream, _)) = tcp.accept() else {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    };
                    stream.set_nonblocking(false).unwrap();
                    stream
                        .set_read_timeout(Some(Duration::from_secs(1)))
                        .unwrap();
                    let mut length = [0; 2];
                    if stream.read_exact(&mut length).is_err() {
                        continue;
                    }
                    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut packet).unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    for reply in replies(&packet, behaviour, true) {
                        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                        stream.write_all(&length).unwrap();
                        stream.write_all(&reply).unwrap();
                    }
                }
            })
        };
        Self {
            asked,
            over,
            threads: vec![by_udp, by_tcp],
        }
    }

    /// How many questions it has got.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("the outside server has panicked");
            }
        }
    }
}

fn replies(packet: &[u8], behaviour: Behaviour, by_tcp: bool) -> Vec<Vec<u8>> {
    let Behaviour::Answers(last) = behaviour else {
        return Vec::new();
    };
    let asked = Message::from_vec(packet).unwrap();
    let question = asked.queries[0].clone();
    let name = question.name.to_ascii().to_ascii_lowercase();
    let limit = if by_tcp {
        65_535
    } else {
        usize::from(asked.max_payload())
    };
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.add_query(question.clone());
    match name.as_str() {
        "missing.test." => message.metadata.response_code = ResponseCode::NXDomain,
        "broken.test." => message.metadata.response_code = ResponseCode::ServFail,
        "big.test." | "rude.test." => {
            let text = vec!["x".repeat(250); 16];
            message.add_answer(Record::from_rdata(
                question.name.clone(),
                60,
                RData::TXT(TXT::new(text)),
            ));
            let size = message.to_vec().unwrap().len();
            if size > limit && name == "big.test." {
                message.answers.clear();
                message.metadata.truncation = true;
            }
        }
        _ if question.query_type == RecordType::A => {
            message.add_answer(Record::from_rdata(
                question.name.clone(),
                60,
                RData::A(A(Ipv4Addr::new(192, 0, 2, last))),
            ));
        }
        _ => {}
    }
    let mut list = Vec::new();
    if name == "forged.test." {
        let mut other_number = message.clone();
        other_number.metadata.id = asked.metadata.id.wrapping_add(1);
        other_number.answers[0].data = RData::A(A(Ipv4Addr::new(6, 6, 6, 6)));
        list.push(other_number.to_vec().unwrap());
        let mut other_question = other_number;
        other_question.metadata.id = asked.metadata.id;
        other_question.queries = vec![Query::query(
            Name::from_ascii("other.test.").unwrap(),
            RecordType::A,
        )];
        list.push(other_question.to_vec().unwrap());
        // A question sent back is no answer.
        list.push(packet.to_vec());
    }
    list.push(message.to_vec().unwrap());
    list
}
