// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's debugger stub: stops the machine at an instruction, and gives the machine what
//! software in it cannot have, for example a system reset at that instruction.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Numbers of registers: those of the stub's `power-core.xml`.
pub mod register {
	/// r0 is the first.
	pub const GPR0: usize = 0;
	/// The next instruction.
	pub const PC: usize = 64;
	/// MSR.
	pub const MSR: usize = 65;
	/// LR.
	pub const LR: usize = 67;
}

/// A connection to the stub.
pub struct Gdb {
	stream: UnixStream,
	received: Vec<u8>,
}

impl Gdb {
	/// Connects to the stub behind this socket as soon as QEMU has made it. The machine stops.
	pub fn connect(socket: &Path) -> Result<Self> {
		let until = Instant::now() + ANSWER;
		let stream = loop {
			match UnixStream::connect(socket) {
				Ok(stream) => break stream,
				Err(error) if Instant::now() > until => {
					return Err(error).context("QEMU has no debugger stub");
				}
				Err(_) => thread::sleep(Duration::from_millis(20)),
			}
		};
		let mut gdb = Self {
			stream,
			received: Vec::new(),
		};
		gdb.ask("qSupported:xmlRegisters=powerpc")?;
		gdb.ask("?")?;
		Ok(gdb)
	}

	fn send(&mut self, packet: &str) -> Result<()> {
		let sum = packet.bytes().fold(0u8, u8::wrapping_add);
		write!(self.stream, "${packet}#{sum:02x}").context("the debugger stub is gone")
	}

	/// The next packet, unless none comes in time.
	fn receive(&mut self, limit: Duration) -> Result<Option<String>> {
		let until = Instant::now() + limit;
		loop {
			let start = self.received.iter().position(|&byte| byte == b'$');
			let end = self.received.iter().position(|&byte| byte == b'#');
			if let (Some(start), Some(end)) = (start, end)
				&& self.received.len() >= end + 3
			{
				let packet = self.received[start + 1..end].to_vec();
				self.received.drain(..end + 3);
				self.stream.write_all(b"+")?;
				return Ok(Some(String::from_utf8(packet)?));
			}
			let left = until.saturating_duration_since(Instant::now());
			if left.is_zero() {
				return Ok(None);
			}
			self.stream.set_read_timeout(Some(left))?;
			let mut buffer = [0; 4096];
			match self.stream.read(&mut buffer) {
				Ok(0) => bail!("the debugger stub is gone"),
				Ok(count) => self.received.extend_from_slice(&buffer[..count]),
				Err(error)
					if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
				Err(error) => return Err(error).context("the debugger stub is gone"),
			}
		}
	}

	/// Asks, and gives the answer.
	fn ask(&mut self, packet: &str) -> Result<String> {
		self.send(packet)?;
		match self.receive(ANSWER)? {
			Some(answer) => Ok(answer),
			None => bail!("the debugger stub does not answer '{packet}'"),
		}
	}

	fn order(&mut self, packet: &str) -> Result<()> {
		match self.ask(packet)?.as_str() {
			"OK" => Ok(()),
			answer => bail!("the debugger stub answers '{packet}' with '{answer}'"),
		}
	}

	/// What a register holds. The CPU must be in little-endian mode.
	pub fn register(&mut self, number: usize) -> Result<u64> {
		let answer = self.ask(&format!("p{number:x}"))?;
		let value = u64::from_str_radix(&answer, 16)
			.with_context(|| format!("register {number}: '{answer}'"))?;
		match answer.len() {
			8 => Ok((value as u32).swap_bytes().into()),
			_ => Ok(value.swap_bytes()),
		}
	}

	/// Changes a register. The CPU must be in little-endian mode.
	pub fn set_register(&mut self, number: usize, value: u64) -> Result<()> {
		self.order(&format!("P{number:x}={:016x}", value.swap_bytes()))
	}

	/// A description of registers.
	fn feature(&mut self, file: &str) -> Result<String> {
		let mut text = String::new();
		loop {
			let at = text.len();
			let answer = self.ask(&format!("qXfer:features:read:{file}:{at:x},1000"))?;
			let (kind, part) = answer.split_at_checked(1).context("no description")?;
			text.push_str(part);
			match kind {
				"m" => {}
				"l" => return Ok(text),
				_ => bail!("the debugger stub has no {file}: '{answer}'"),
			}
		}
	}

	/// The number of an SPR, by its name in QEMU.
	pub fn spr(&mut self, name: &str) -> Result<usize> {
		let text = self.feature("power-spr.xml")?;
		let wanted = format!("name=\"{name}\"");
		let line = text.split("<reg ").find(|line| line.contains(&wanted));
		let number = line
			.and_then(|line| line.split("regnum=\"").nth(1))
			.and_then(|rest| rest.split('"').next());
		number
			.and_then(|number| number.parse().ok())
			.with_context(|| format!("QEMU's debugger stub has no {name}"))
	}

	/// Reads memory, by an address as the CPU would use it now.
	pub fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
		let hex = self.ask(&format!("m{address:x},{length:x}"))?;
		let byte = |at: usize| {
			hex.get(at..at + 2)
				.and_then(|hex| u8::from_str_radix(hex, 16).ok())
		};
		let bytes: Option<Vec<u8>> = (0..length).map(|index| byte(2 * index)).collect();
		bytes.with_context(|| format!("memory at {address:#x}: '{hex}'"))
	}

	/// Writes memory, by an address as the CPU would use it now.
	pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
		let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
		self.order(&format!("M{address:x},{:x}:{hex}", bytes.len()))
	}

	/// Has the machine stop at this instruction.
	pub fn stop_at(&mut self, address: u64) -> Result<()> {
		self.order(&format!("Z0,{address:x},4"))
	}

	/// No longer.
	pub fn do_not_stop_at(&mut self, address: u64) -> Result<()> {
		self.order(&format!("z0,{address:x},4"))
	}

	/// Lets the machine run. Call [`stopped`](Self::stopped) or [`stop`](Self::stop) next.
	pub fn go_on(&mut self) -> Result<()> {
		self.send("c")
	}

	/// Whether the machine stops within this time. Else it is still running.
	pub fn stopped(&mut self, limit: Duration) -> Result<bool> {
		Ok(self.receive(limit)?.is_some())
	}

	/// Stops the machine that runs.
	pub fn stop(&mut self) -> Result<()> {
		self.stream.write_all(&[3])?;
		match self.receive(ANSWER)? {
			Some(_) => Ok(()),
			None => bail!("the machine does not stop"),
		}
	}

	/// Ends QEMU.
	pub fn kill(&mut self) -> Result<()> {
		self.send("k")
	}

	/// Executes one instruction.
	pub fn step(&mut self) -> Result<()> {
		self.ask("s").map(drop)
	}

	/// Executes a command of QEMU's monitor. What it does to a CPU, the CPU does before its next
	/// instruction.
	pub fn monitor(&mut self, command: &str) -> Result<()> {
		let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
		self.send(&format!("qRcmd,{hex}"))?;
		loop {
			match self.receive(ANSWER)?.as_deref() {
				Some("OK") => return Ok(()),
				// What the command prints.
				Some(text) if text.starts_with('O') => {}
				answer => bail!("the monitor answers '{command}' with {answer:?}"),
			}
		}
	}
}
