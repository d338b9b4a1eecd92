// SPDX-License-Identifier: GPL-2.0-only
//! H_BULK_REMOVE: up to four H_REMOVE in one hcall.

use crate::hcalls::note;
use crate::lock::{Locked, find};
use crate::pte::{Pte, R_C, R_R, V_FLAGS, V_VALID};
use crate::rmap::{self, word_of};
use crate::{Guest, Refusal};

/// Requests in one hcall.
const REQUESTS: usize = 4;

/// Where R and C are in a response, from where they are in an HPTE.
const RC_SHIFT: u32 = 56 - 5;
/// The index in a request and a response.
const INDEX: u64 = (1 << 56) - 1;

/// What a request asks.
#[derive(Clone, Copy)]
enum RequestKind {
	Absolute,
	AndCond,
	Avpn,
}

/// A request.
struct Request {
	kind: RequestKind,
	/// The kind as it is in a request and in a response.
	bits: u64,
	index: u64,
	avpn: u64,
}

impl Request {
	/// A request, the end of the list (`None`), or what to answer to a bad one.
	fn parse(word: u64, avpn: u64) -> Result<Option<Self>, u64> {
		let index = word & INDEX;
		let bits = word >> 56 & 3;
		let kind = match (word >> 62, bits) {
			(3, _) => return Ok(None),
			(1, 0) => RequestKind::Absolute,
			(1, 1) => RequestKind::AndCond,
			(1, 2) => RequestKind::Avpn,
			_ => return Err((0xa0 | bits) << 56 | index),
		};
		Ok(Some(Self {
			kind,
			bits,
			index,
			avpn,
		}))
	}

	fn response(&self, code: u64) -> u64 {
		(code | self.bits) << 56 | self.index
	}

	fn matches(&self, pte: Pte) -> bool {
		pte.is_in_use()
			&& match self.kind {
				RequestKind::Absolute => true,
				RequestKind::AndCond => pte.v & self.avpn == 0,
				RequestKind::Avpn => pte.v & !V_FLAGS == self.avpn,
			}
	}
}

/// What [`lock_chain`] returns of an HPTE that is in no chain.
const NO_CHAIN: usize = REQUESTS;

/// The lock of a reverse map word among `chains`, which is taken if it is not among them yet.
fn lock_chain<'a>(
	chains: &mut [Option<rmap::Locked<'a>>; REQUESTS],
	word: &'a core::sync::atomic::AtomicU64,
) -> Result<usize, Refusal> {
	for (n, chain) in chains.iter_mut().enumerate() {
		match chain {
			Some(chain) if chain.is_of(word) => return Ok(n),
			Some(_) => {}
			None => {
				*chain = Some(rmap::Locked::new(word)?);
				return Ok(n);
			}
		}
	}
	Err(Refusal::TooHard)
}

/// H_BULK_REMOVE: `arguments` are four pairs of a request and what it compares; the first of each
/// pair becomes the response.
#[inline]
pub fn bulk_remove<G: Guest>(guest: &G, arguments: &mut [u64; 8]) -> Result<(), Refusal> {
	let mut responses = *arguments;
	let mut result = Ok(());
	// Apart, and no more than this: the compiler would call a function to clear larger arrays.
	let mut found: [Option<Locked<'_>>; REQUESTS] = [const { None }; REQUESTS];
	let mut chain_of = [NO_CHAIN; REQUESTS];
	let mut chains: [Option<rmap::Locked<'_>>; REQUESTS] = [const { None }; REQUESTS];
	let mut translations = [0; REQUESTS];
	let mut valid = 0;

	for n in 0..REQUESTS {
		let (pairs, _) = responses.as_chunks_mut::<2>();
		let Some(&[word, avpn]) = pairs.get(n) else {
			break;
		};
		let request = match Request::parse(word, avpn) {
			Ok(Some(request)) => request,
			Ok(None) => break,
			Err(response) => {
				respond(pairs, n, response);
				result = Err(Refusal::PARAMETER);
				break;
			}
		};
		let Ok(hpte) = find(guest, request.index) else {
			respond(pairs, n, request.response(0xa0));
			result = Err(Refusal::PARAMETER);
			break;
		};
		let mut earlier = found.iter().zip(&*pairs);
		if earlier.any(|(found, [word, _])| found.is_some() && word & INDEX == request.index) {
			// Not in use any more by the time of this request.
			respond(pairs, n, request.response(0x90));
			continue;
		}
		let locked = Locked::new(hpte)?;
		let pte = locked.pte();
		if !request.matches(pte) {
			respond(pairs, n, request.response(0x90));
			continue;
		}
		respond(pairs, n, request.response(0x80));
		let rev = guest.rev(request.index).ok_or(Refusal::TooHard)?;
		if pte.v & V_VALID != 0 {
			if let Some(word) = word_of(guest, pte.v, rev.guest_r())? {
				let chain = lock_chain(&mut chains, word)?;
				if let Some(number) = chain_of.get_mut(n) {
					*number = chain;
				}
				// All that will be neighbours later are neighbours of one of them now.
				if let Some(Some(chain)) = chains.get(chain) {
					chain.neighbours(guest, rev)?;
				}
			}
			if let Some(translation) = translations.get_mut(valid) {
				*translation = pte.translation(request.index);
			}
			valid += 1;
		}
		if let Some(place) = found.get_mut(n) {
			*place = Some(locked);
		}
	}

	// From here on nothing fails: what was found once is found again.
	let is_valid = |locked: &Locked<'_>| locked.v & V_VALID != 0;
	for locked in found.iter().flatten().filter(|locked| is_valid(locked)) {
		locked.hpte.set_v(locked.v & !V_VALID);
	}
	if let Some(translations) = translations.get(..valid)
		&& valid > 0
	{
		guest.flush(translations);
	}
	let numbered = found.iter_mut().zip(&chain_of);
	for ((locked, chain), response) in numbered.zip(responses.iter_mut().step_by(2)) {
		let index = *response & INDEX;
		let (Some(locked), Some(rev)) = (locked.take(), guest.rev(index)) else {
			continue;
		};
		if is_valid(&locked) {
			let rc = locked.hpte.r() & (R_R | R_C);
			rev.set_guest_r(rev.guest_r() | rc);
			if let Some(Some(chain)) = chains.get_mut(*chain) {
				if let Ok(neighbours) = chain.neighbours(guest, rev) {
					chain.unlink(index, rev, neighbours);
				}
				chain.collect(rc);
			}
		}
		note(guest, rev);
		*response |= (rev.guest_r() & (R_R | R_C)) << RC_SHIFT;
		let is_device = locked.pte().is_device();
		locked.unlock(0);
		if is_device {
			guest.forget_devices();
		}
	}
	*arguments = responses;
	result
}

/// Writes the response to a request.
fn respond(pairs: &mut [[u64; 2]], n: usize, response: u64) {
	if let Some([word, _]) = pairs.get_mut(n) {
		*word = response;
	}
}
