// SPDX-License-Identifier: GPL-2.0-only
//! TCE entries and DMA windows.
#![no_std]
