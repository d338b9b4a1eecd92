// SPDX-License-Identifier: GPL-2.0-only
//! Initramfs archives: cpio, in the "newc" layout that the kernel reads.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// An archive that is being written.
pub struct Initrd {
	bytes: Vec<u8>,
	inode: u32,
}

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHAR_DEVICE: u32 = 0o020_000;

impl Default for Initrd {
	fn default() -> Self {
		Self::new()
	}
}

impl Initrd {
	/// An archive with the mount points that an init needs, and a console.
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

	/// Adds a folder below the root folder.
	pub fn folder(&mut self, name: &str) {
		self.entry(name, FOLDER | 0o755, (0, 0), &[]);
	}

	/// Adds the content of a folder to the root folder; links stay links.
	pub fn tree(&mut self, root: &Path) -> Result<()> {
		self.below(root, "")
	}

	fn below(&mut self, folder: &Path, prefix: &str) -> Result<()> {
		let can_not = || format!("can't read {}", folder.display());
		let mut entries = fs::read_dir(folder)
			.with_context(can_not)?
			.collect::<Result<Vec<_>, _>>()
			.with_context(can_not)?;
		entries.sort_by_key(fs::DirEntry::file_name);
		for entry in entries {
			let path = entry.path();
			let can_not = || format!("can't read {}", path.display());
			let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
			let meta = fs::symlink_metadata(&path).with_context(can_not)?;
			if meta.is_dir() {
				self.folder(&name);
				self.below(&path, &format!("{name}/"))?;
			} else if meta.is_symlink() {
				let target = fs::read_link(&path).with_context(can_not)?;
				self.entry(&name, LINK | 0o777, (0, 0), target.as_os_str().as_bytes());
			} else {
				let executable = meta.permissions().mode() & 0o100 != 0;
				self.file(&name, executable, &fs::read(&path).with_context(can_not)?);
			}
		}
		Ok(())
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
			0, // mtime: the same content gives the same archive
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

	/// Name, mode and content of each entry.
	fn entries(bytes: &[u8]) -> Vec<(String, usize, Vec<u8>)> {
		assert_eq!(bytes.len() % 4, 0);
		let mut entries = Vec::new();
		let mut at = 0;
		while at < bytes.len() {
			assert_eq!(&bytes[at..at + 6], b"070701");
			let field = |n: usize| {
				let text = &bytes[at + 6 + 8 * n..at + 14 + 8 * n];
				usize::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
			};
			let (size, name_size) = (field(6), field(11));
			let name = &bytes[at + 110..at + 110 + name_size - 1];
			let content = (at + 110 + name_size).next_multiple_of(4);
			entries.push((
				String::from_utf8(name.to_vec()).unwrap(),
				field(1),
				bytes[content..content + size].to_vec(),
			));
			at = (content + size).next_multiple_of(4);
		}
		entries
	}

	#[test]
	fn entries_are_aligned_and_whole() {
		let mut initrd = Initrd::new();
		initrd.file("job", false, b"{}!");
		let entries = entries(&initrd.finish());
		let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
		assert_eq!(
			names,
			["dev", "proc", "sys", "dev/console", "job", "TRAILER!!!"]
		);
		assert_eq!(entries[4], ("job".into(), 0o100_644, b"{}!".to_vec()));
	}

	#[test]
	fn a_tree_keeps_its_links_and_modes() {
		let root = std::env::temp_dir().join(format!("kvm-p9-initrd-{}", std::process::id()));
		fs::create_dir_all(root.join("bin/deep")).unwrap();
		fs::write(root.join("bin/deep/sh"), "x").unwrap();
		fs::set_permissions(root.join("bin/deep/sh"), PermissionsExt::from_mode(0o700)).unwrap();
		fs::write(root.join("text"), "").unwrap();
		std::os::unix::fs::symlink("/bin/deep", root.join("link")).unwrap();
		let mut initrd = Initrd::new();
		let packed = initrd.tree(&root);
		fs::remove_dir_all(&root).unwrap();
		packed.unwrap();
		let entries = entries(&initrd.finish());
		let entry = |name: &str, mode, content: &[u8]| (name.to_owned(), mode, content.to_vec());
		assert_eq!(
			entries[4..9],
			[
				entry("bin", 0o040_755, b""),
				entry("bin/deep", 0o040_755, b""),
				entry("bin/deep/sh", 0o100_755, b"x"),
				entry("link", 0o120_777, b"/bin/deep"),
				entry("text", 0o100_644, b""),
			]
		);
		assert!(Initrd::new().tree(&root).is_err());
	}
}
