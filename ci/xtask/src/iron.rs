// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask iron`: makes the folder that measures on a real machine, and reads what comes home.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ::report::iron::Iron;
use anyhow::{Context, Result, bail};
use harness::initrd::Initrd;
use harness::kernel::{self, Image, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs::{self, Programs};
use protocol::{Column, GuestMode};

use crate::bench::Plan;
use crate::cells::{chosen_cases, paths_of};

/// `cargo xtask iron`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
	#[command(subcommand)]
	command: Option<Task>,
	#[command(flatten)]
	args: Args,
}

/// What is to be measured, and where the folder goes.
#[derive(clap::Args)]
struct Args {
	/// Kernel series of the kernel in the folder [default: 6.12]
	#[arg(long, value_name = "SERIES")]
	series: Option<String>,
	/// Only these cases, separated by commas
	#[arg(long, value_name = "A,B", value_delimiter = ',')]
	cases: Option<Vec<String>>,
	/// Fewer round trips
	#[arg(long)]
	quick: bool,
	/// The folder [default: target/iron/SERIES]. An archive of it goes beside it
	#[arg(short, long, value_name = "FOLDER")]
	output: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Task {
	/// Print what a machine measured; fails if something is missing
	Report {
		/// The folder that the machine wrote, or logs, such as the capture of a console
		#[arg(required = true)]
		logs: Vec<PathBuf>,
		/// Write the figures to a file, too
		#[arg(long, value_name = "FILE")]
		json: Option<PathBuf>,
	},
}

/// `cargo xtask iron`
pub fn main(cli: &Cli) -> Result<()> {
	match &cli.command {
		Some(Task::Report { logs, json }) => report(logs, json.as_deref()),
		None => make(&cli.args),
	}
}

fn make(args: &Args) -> Result<()> {
	let series = match &args.series {
		Some(name) => Series::find_rust(name.trim())?,
		None => Series::main(),
	};
	let plan = Plan::new(args.quick, chosen_cases(args.cases.as_deref())?, 0);
	let folder = args
		.output
		.clone()
		.unwrap_or_else(|| paths::target().join("iron").join(series.name));
	name_of(&folder)?;
	let image = kernel::build_direct(series)?;
	let archive = bundle(&image, &plan, &programs::build()?, &folder)?;
	println!("{}\n{}", paths::short(&folder), paths::short(&archive));
	Ok(())
}

/// The jobs of a plan, as the VMM reads them from a file.
fn jobs(plan: &Plan, image: &Image, paths: &[Column], spans: bool) -> Result<Vec<u8>> {
	let mut text = Vec::new();
	for job in plan.jobs(&image.series, paths, spans) {
		serde_json::to_writer(&mut text, &job)?;
		text.push(b'\n');
	}
	Ok(text)
}

/// The name of a folder that may be replaced.
fn name_of(folder: &Path) -> Result<&OsStr> {
	let unusable = |why: &str| Usage(format!("{}: {why}", folder.display()));
	let Some(name) = folder.file_name() else {
		return Err(unusable("the folder needs a name of its own").into());
	};
	if folder.exists() && !folder.join("initramfs.cpio").exists() {
		return Err(unusable("is there, and is not a folder of this command").into());
	}
	Ok(name)
}

/// Writes the folder and its archive; returns where the latter is.
pub fn bundle(image: &Image, plan: &Plan, programs: &Programs, folder: &Path) -> Result<PathBuf> {
	let name = name_of(folder)?;
	let part = process::beside(folder, ".part");
	process::remove(&part)?;
	fs::create_dir_all(&part).with_context(|| format!("can't make {}", part.display()))?;
	let rust = [Column::RustFull, Column::RustFast];
	// A sample for perf: few cases, in the guest mode that most use.
	let sample = Plan {
		guests: &[GuestMode::Radix],
		..Plan::new(true, plan.cases().take(3).collect(), 0)
	};
	let all = jobs(plan, image, paths_of(image), false)?;
	let mut initrd = Initrd::new();
	initrd.file("init", true, programs.vmm());
	initrd.file("guest", false, programs.guest());
	initrd.file("job", false, &all);
	let ours = paths::root().join("ci/iron");
	let read =
		|path: PathBuf| fs::read(&path).with_context(|| format!("can't read {}", path.display()));
	let files: [(&str, bool, Vec<u8>); 9] = [
		("run", true, read(ours.join("run"))?),
		("README.md", false, read(ours.join("README.md"))?),
		("vmlinux", false, read(image.stripped())?),
		("initramfs.cpio", false, initrd.finish()),
		("vmm", true, programs.vmm().to_vec()),
		("guest", false, programs.guest().to_vec()),
		("jobs", false, all),
		("jobs.spans", false, jobs(plan, image, &rust, true)?),
		(
			"jobs.perf",
			false,
			jobs(&sample, image, paths_of(image), false)?,
		),
	];
	for (name, executable, content) in &files {
		let path = part.join(name);
		process::write_whole(&path, content)?;
		if *executable {
			use std::os::unix::fs::PermissionsExt;
			fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
		}
	}
	process::remove(folder)?;
	fs::rename(&part, folder).with_context(|| format!("can't make {}", folder.display()))?;
	let archive = process::beside(folder, ".tar.gz");
	let parent = folder.parent().filter(|parent| parent != &Path::new(""));
	let mut tar = std::process::Command::new("tar");
	tar.arg("-C").arg(parent.unwrap_or(Path::new(".")));
	tar.arg("-czf").arg(&archive).arg(name);
	process::output(&mut tar)?;
	Ok(archive)
}

/// The logs that a path stands for.
fn logs_at(path: &Path) -> Result<Vec<PathBuf>> {
	if !path.is_dir() {
		return Ok(vec![path.to_owned()]);
	}
	let found: Vec<_> = ["console.log", "spans.log"]
		.map(|name| path.join(name))
		.into_iter()
		.filter(|log| log.exists())
		.collect();
	if found.is_empty() {
		return Err(Usage(format!("{}: no console.log", path.display())).into());
	}
	Ok(found)
}

/// What the logs at these paths say.
pub fn read(paths: &[PathBuf]) -> Result<Iron> {
	let mut iron = Iron::default();
	for path in paths {
		for log in logs_at(path)? {
			let bytes = fs::read(&log).map_err(|e| Usage(format!("{}: {e}", log.display())))?;
			iron.read(&log.display().to_string(), &String::from_utf8_lossy(&bytes));
		}
	}
	Ok(iron)
}

fn report(logs: &[PathBuf], json: Option<&Path>) -> Result<()> {
	let iron = read(logs)?;
	if !iron.is_empty() {
		print!("{}", iron.render());
		if let Some(path) = json {
			process::write_whole(path, serde_json::to_string_pretty(&iron)?.as_bytes())?;
		}
	}
	match iron.problems.as_slice() {
		[] => Ok(()),
		[one] => bail!("{one}"),
		[first, more @ ..] => {
			if iron.is_empty() {
				more.iter().for_each(say);
			}
			bail!("{} problems, the first: {first}", iron.problems.len())
		}
	}
}
