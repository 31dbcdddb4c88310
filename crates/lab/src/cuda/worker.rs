//! The worker process: our own binary's hidden verb. Reads commands, owns tenants, answers.
//!
//! A worker lives in a process of its own so that a tenant's crash, an exhausted GPU or a `kill -9` ends one
//! trial and not the run, and because time slicing and MPS are between processes by nature.

use super::protocol::{Command, Meeting, Reply, TenantDone};
use super::tenant::{Home, Images, Tenant};
use cotenant_gpu::context::{Context, DeviceBuffer, GreenContext};
use cotenant_gpu::{Error, Result};
use cotenant_units::Bytes;
use std::io::{BufRead, Write};
use std::sync::Arc;

/// Serves commands from standard input until `Exit` or its end.
///
/// # Errors
/// Standard input or output fails; the meeting page is absent.
pub fn serve(meeting_fd: i32) -> std::io::Result<()> {
    let meeting = Meeting::inherited(meeting_fd)?;
    let mut worker = Worker {
        meeting,
        context: None,
        images: Images::default(),
        tenants: Vec::new(),
        pads: Vec::new(),
        sms: Vec::new(),
    };
    let stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    for line in stdin.lines() {
        let line = line?;
        let reply = match serde_json::from_str::<Command>(&line) {
            Ok(Command::Exit) => {
                worker.tenants.clear();
                send(&mut stdout, &Reply::Ok)?;
                break;
            }
            Ok(command) => worker.handle(command).unwrap_or_else(|e| Reply::Error {
                message: e.to_string(),
                unavailable: matches!(e, Error::MissingSymbol { .. } | Error::NoDriver)
                    || matches!(&e, Error::Library { name, .. } if name.contains("libcublas")),
            }),
            Err(e) => {
                Reply::Error { message: format!("a command was not understood: {e}"), unavailable: false }
            }
        };
        send(&mut stdout, &reply)?;
    }
    Ok(())
}

fn send(out: &mut impl Write, reply: &Reply) -> std::io::Result<()> {
    let line = serde_json::to_string(reply).map_err(std::io::Error::other)?;
    writeln!(out, "{line}")?;
    out.flush()
}

struct Worker {
    meeting: Meeting,
    context: Option<(u32, Arc<Context>)>,
    images: Images,
    tenants: Vec<Tenant>,
    pads: Vec<DeviceBuffer>,
    sms: Vec<u32>,
}

/// Memory that lies unused before a tenant's, so that each set-up finds its arrays at other addresses: 1 to 61
/// pages of 2 MiB, none in the first set-up.
fn pad(setup: u32, tenant: usize) -> Bytes {
    Bytes::mib(if setup == 0 { 0 } else { 2 * (1 + u64::from(setup) * 17 % 61 + tenant as u64 * 7 % 13) })
}

impl Worker {
    fn handle(&mut self, command: Command) -> Result<Reply> {
        match command {
            Command::Setup { device, tenants, green_sms, setup } => {
                self.tenants.clear();
                self.pads.clear();
                let context = match &self.context {
                    Some((d, c)) if *d == device => c.clone(),
                    _ => {
                        let c = Context::primary(device)?;
                        self.context = Some((device, c.clone()));
                        c
                    }
                };
                context.make_current()?;
                let visible = cotenant_gpu::driver::device_info(device)?.sms.0;
                let greens = if green_sms.is_empty() {
                    Vec::new()
                } else {
                    GreenContext::split(&context, &green_sms)?
                };
                self.sms.clear();
                for (i, tenant) in tenants.iter().enumerate() {
                    self.pads.push(DeviceBuffer::filled(pad(setup, i), 0)?);
                    let home = match greens.get(i) {
                        Some(g) => Home::Green(g.clone()),
                        None => Home::Primary(context.clone()),
                    };
                    self.sms.push(greens.get(i).map_or(visible, |g| g.sms().0));
                    self.tenants.push(Tenant::new(tenant, home, &mut self.images, device)?);
                }
                let priorities = self.tenants.iter().map(Tenant::priority).collect::<Result<_>>()?;
                Ok(Reply::Ready { sms: self.sms.clone(), priorities })
            }
            Command::Iterations { tenant, n } => {
                if let Some(t) = self.tenants.get_mut(tenant) {
                    t.set_iterations(n);
                }
                Ok(Reply::Ok)
            }
            Command::Schedule { tenant, offsets } => {
                if let Some(t) = self.tenants.get_mut(tenant) {
                    t.set_schedule(offsets);
                }
                Ok(Reply::Ok)
            }
            Command::Run { who, participants, sequential, steady, anchor } => {
                if who.iter().any(|&i| i >= self.tenants.len()) {
                    return Err(Error::Tenant { kernel: "worker".into(), reason: "no such tenant".into() });
                }
                let anchor_ns = match who.first().filter(|_| anchor) {
                    Some(&i) => Some(self.tenants[i].anchor(&mut self.images)?),
                    None => None,
                };
                let tenants = if sequential {
                    self.sequential(&who)?
                } else {
                    self.together(&who, participants, steady)?
                };
                Ok(Reply::Done { tenants, anchor_ns })
            }
            Command::LaunchCosts { device } => Ok(Reply::Costs(super::once::launch_costs(device)?)),
            Command::Exit => Ok(Reply::Ok),
        }
    }

    /// All of `who` back to back on the device, each stream waiting for the one before.
    fn sequential(&mut self, who: &[usize]) -> Result<Vec<TenantDone>> {
        for &i in who {
            self.tenants[i].prepare()?;
        }
        let mut last: Option<usize> = None;
        for &i in who {
            match last {
                None => self.tenants[i].submit(None)?,
                Some(j) => {
                    // Two different tenants of one vector: split it to borrow one of them mutably.
                    let (low, high) = self.tenants.split_at_mut(i.max(j));
                    let (current, before) =
                        if i > j { (&mut high[0], &low[j]) } else { (&mut low[i], &high[0]) };
                    current.submit(Some(before))?;
                }
            }
            last = Some(i);
        }
        who.iter().map(|&i| self.tenants[i].collect(i, Vec::new())).collect()
    }

    /// All of `who` at once, a thread each.
    fn together(&mut self, who: &[usize], participants: u32, steady: bool) -> Result<Vec<TenantDone>> {
        let meeting = &self.meeting;
        let results: Vec<(usize, Result<Vec<u64>>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .tenants
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| who.contains(i))
                .map(|(i, t)| {
                    (
                        i,
                        scope.spawn(move || {
                            let r = t.run(meeting, participants, steady);
                            if r.is_err() {
                                meeting.abort();
                            }
                            r
                        }),
                    )
                })
                .collect();
            threads
                .into_iter()
                .map(|(i, t)| {
                    let r = t.join().unwrap_or_else(|_| {
                        Err(Error::Tenant { kernel: "tenant".into(), reason: "its thread panicked".into() })
                    });
                    (i, r)
                })
                .collect()
        });
        results
            .into_iter()
            .map(|(i, r)| r.and_then(|requests| self.tenants[i].collect(i, requests)))
            .collect()
    }
}
