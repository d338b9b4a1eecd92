// SPDX-License-Identifier: GPL-2.0-only
//! Initramfs archives: cpio, in the "newc" layout that the kernel reads.

/// An archive that is being written.
pub struct Initrd {
	bytes: Vec<u8>,
	inode: u32,
}

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const CHAR_DEVICE: u32 = 0o020_000;

impl Initrd {
	/// With the folders that an init mounts things on, and a console.
	pub fn new() -> Self {
		let mut initrd = Self {
			bytes: Vec::new(),
			inode: 0,
		};
		for folder in ["dev", "proc", "sys"] {
			initrd.entry(folder, FOLDER | 0o755, (0, 0), &[]);
		}
		initrd.entry("dev/console", CHAR_DEVICE | 0o600, (5, 1), &[]);
		initrd
	}

	/// Adds a file below the root folder.
	pub fn file(&mut self, name: &str, executable: bool, content: &[u8]) {
		let mode = if executable { 0o755 } else { 0o644 };
		self.entry(name, FILE | mode, (0, 0), content);
	}

	/// The finished archive.
	pub fn finish(mut self) -> Vec<u8> {
		self.inode = 0;
		self.entry("TRAILER!!!", 0, (0, 0), &[]);
		self.bytes
	}

	fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
		self.inode += 1;
		let fields = [
			self.inode,
			mode,
			0, // uid
			0, // gid
			1, // links
			0, // mtime: the same content shall give the same archive
			content.len() as u32,
			0, // device of the file system
			0,
			device.0,
			device.1,
			name.len() as u32 + 1,
			0, // checksum, unused
		];
		self.bytes.extend_from_slice(b"070701");
		for field in fields {
			self.bytes
				.extend_from_slice(format!("{field:08X}").as_bytes());
		}
		self.bytes.extend_from_slice(name.as_bytes());
		self.bytes.push(0);
		self.align();
		self.bytes.extend_from_slice(content);
		self.align();
	}

	fn align(&mut self) {
		self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn entries_are_aligned_and_whole() {
		let mut initrd = Initrd::new();
		initrd.file("job", false, b"{}!");
		let bytes = initrd.finish();
		assert_eq!(bytes.len() % 4, 0);
		let mut names = Vec::new();
		let mut at = 0;
		while at < bytes.len() {
			assert_eq!(&bytes[at..at + 6], b"070701");
			let field = |n: usize| {
				let text = &bytes[at + 6 + 8 * n..at + 14 + 8 * n];
				usize::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
			};
			let (size, name_size) = (field(6), field(11));
			let name = &bytes[at + 110..at + 110 + name_size - 1];
			names.push(String::from_utf8(name.to_vec()).unwrap());
			let content = (at + 110 + name_size).next_multiple_of(4);
			if names.last().unwrap() == "job" {
				assert_eq!(&bytes[content..content + size], b"{}!");
				assert_eq!(field(1), 0o100_644);
			}
			at = (content + size).next_multiple_of(4);
		}
		assert_eq!(
			names,
			["dev", "proc", "sys", "dev/console", "job", "TRAILER!!!"]
		);
	}
}
