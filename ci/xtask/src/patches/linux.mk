# SPDX-License-Identifier: GPL-2.0-only
#
# Included by arch/powerpc/kvm/Makefile when CONFIG_KVM_BOOK3S_HV_P9_RUST is set.
#
# rustc compiles Rust's core and the crates of this folder to bitcode, with the
# flags of the kernel's Rust code, and optimises all of it at once. CONFIG_RUST is
# not needed: nothing of rust/ is used.

include $(srctree)/arch/powerpc/kvm/p9/Makefile.crates
include $(srctree)/arch/powerpc/kvm/p9/Makefile.glue

# rustc would look for make's jobserver, which $(shell) does not pass on.
ifndef RUST_LIB_SRC
RUST_LIB_SRC := $(shell MAKEFLAGS= $(RUSTC) --print sysroot)/lib/rustlib/src/rust/library
endif

kvm-p9-in := $(srctree)/arch/powerpc/kvm/p9
kvm-p9-out := $(obj)/p9
kvm-p9-core := $(RUST_LIB_SRC)/core/src/lib.rs

ifeq ($(wildcard $(kvm-p9-core)),)
$(error CONFIG_KVM_BOOK3S_HV_P9_RUST needs the source of Rust's library at \
	$(RUST_LIB_SRC): rustup component add rust-src, or name it with RUST_LIB_SRC=)
endif

# Linux before 7.0 has no Rust flags for powerpc.
kvm-p9-target := $(if $(filter --target=%,$(KBUILD_RUSTFLAGS)),, \
	--target=powerpc64le-unknown-linux-gnu -Ctarget-feature=-mma,-vsx,-hard-float,-altivec)

# Fast handlers run with a guest's context loaded and can't panic: checks that
# debug options of the kernel add to Rust code would. Each function is in a section
# of its own, so that only what is used is linked.
kvm-p9-rustflags = $(filter-out --edition=% -Cembed-bitcode=% -Clto=%,$(KBUILD_RUSTFLAGS)) \
	$(kvm-p9-target) -Ctarget-cpu=pwr9 -Crelocation-model=static -Cpanic=abort \
	-Copt-level=2 -Ccodegen-units=1 -Cdebuginfo=0 -Cstrip=debuginfo \
	-Cforce-unwind-tables=no -Cdebug-assertions=n -Coverflow-checks=n \
	-Zfunction-sections=y -Zunstable-options --cap-lints=allow \
	--sysroot=/dev/null -L $(kvm-p9-out)

kvm-p9-crate = $(patsubst lib%,%,$(basename $(notdir $@)))
kvm-p9-about = --crate-name $(kvm-p9-crate) \
	--edition=$(if $(kvm-p9-edition-$(kvm-p9-crate)),$(kvm-p9-edition-$(kvm-p9-crate)),2024) \
	--emit=dep-info=$(depfile)

quiet_cmd_kvm_p9_rlib = RUSTC   $@
      cmd_kvm_p9_rlib = $(RUSTC) $(kvm-p9-rustflags) $(kvm-p9-about) --crate-type=rlib \
	-Clinker-plugin-lto $(kvm-p9-more) --emit=link=$@ \
	$(addprefix --extern ,$(kvm-p9-uses-$(kvm-p9-crate))) $<; \
	sed -i '/^\#/d' $(depfile)

$(kvm-p9-out)/libcore.rlib: private kvm-p9-more = -Zforce-unstable-if-unmarked
$(kvm-p9-out)/libcore.rlib: $(kvm-p9-core) FORCE
	+$(call if_changed_dep,kvm_p9_rlib)

$(kvm-p9-out)/libcompiler_builtins.rlib: $(kvm-p9-in)/compiler_builtins.rs \
		$(kvm-p9-out)/libcore.rlib FORCE
	+$(call if_changed_dep,kvm_p9_rlib)

kvm-p9-rlibs := $(patsubst %,lib%.rlib,$(filter-out entry,$(kvm-p9-crates)))

define kvm-p9-rlib-needs
$(kvm-p9-out)/lib$(1).rlib: \
	$(patsubst %,$(kvm-p9-out)/lib%.rlib,$(kvm-p9-uses-$(1))) \
	$(kvm-p9-out)/libcompiler_builtins.rlib
endef
$(foreach crate,$(filter-out entry,$(kvm-p9-crates)),$(eval $(call kvm-p9-rlib-needs,$(crate))))

$(addprefix $(kvm-p9-out)/,$(kvm-p9-rlibs)): $(kvm-p9-out)/lib%.rlib: $(kvm-p9-in)/%/src/lib.rs FORCE
	+$(call if_changed_dep,kvm_p9_rlib)

# Offsets become Rust constants, and options of the kernel become conditions.
quiet_cmd_kvm_p9_constants = GEN     $@
      cmd_kvm_p9_constants = \
	OUT_DIR=$(abspath $(kvm-p9-out)) KVM_P9_LAYOUT=$(abspath $(obj)/kvm_p9_layout.h) \
	KVM_P9_LAYOUT_SOURCE=$(abspath $(srctree)/arch/powerpc/kvm/kvm_p9_layout.c) \
	$(kvm-p9-out)/host/layout | sed -n 's/^cargo::rustc-cfg=/--cfg=/p' > $@

$(kvm-p9-out)/layout.flags: $(kvm-p9-out)/host/layout $(obj)/kvm_p9_layout.h FORCE
	$(call if_changed,kvm_p9_constants)

quiet_cmd_kvm_p9_entry = RUSTC   $@
      cmd_kvm_p9_entry = OUT_DIR=$(abspath $(kvm-p9-out)) \
	$(RUSTC) $(kvm-p9-rustflags) $(kvm-p9-about) --crate-type=staticlib -Clto=fat \
	@$(kvm-p9-out)/layout.flags --emit=link=$@ \
	$(addprefix --extern ,$(kvm-p9-uses-entry)) $<; \
	sed -i '/^\#/d' $(depfile)

$(kvm-p9-out)/libentry.a: $(kvm-p9-in)/entry/src/lib.rs $(kvm-p9-out)/layout.flags \
		$(patsubst %,$(kvm-p9-out)/lib%.rlib,$(kvm-p9-uses-entry)) FORCE
	+$(call if_changed_dep,kvm_p9_entry)

# Only the entry points stay global.
quiet_cmd_kvm_p9_object = LD      $@
      cmd_kvm_p9_object = $(LD) -r --gc-sections -T $(kvm-p9-in)/entry/object.ld \
	$(addprefix -u ,$(kvm-p9-entry-points)) -o $@ $<; \
	$(OBJCOPY) --remove-section=.comment --strip-debug \
	$(addprefix --keep-global-symbol=,$(kvm-p9-entry-points) $(kvm-p9-text-bounds)) $@

$(obj)/kvm_p9_rust.o: $(kvm-p9-out)/libentry.a $(kvm-p9-in)/entry/object.ld FORCE
	$(call if_changed,kvm_p9_object)

# Programs for the host: one prints kvm_p9_abi.h, the other makes constants of the layout.
kvm-p9-hostflags = $(filter-out --edition=%,$(KBUILD_HOSTRUSTFLAGS)) --cap-lints=allow \
	-Clinker=$(firstword $(HOSTCC)) -L $(kvm-p9-out)/host

quiet_cmd_kvm_p9_hostlib = HOSTRUSTC $@
      cmd_kvm_p9_hostlib = $(HOSTRUSTC) $(kvm-p9-hostflags) $(kvm-p9-about) --crate-type=rlib \
	--emit=link=$@ $(addprefix --extern ,$(kvm-p9-uses-$(kvm-p9-crate))) $<; \
	sed -i '/^\#/d' $(depfile)

define kvm-p9-hostlib-needs
$(kvm-p9-out)/host/lib$(1).rlib: \
	$(patsubst %,$(kvm-p9-out)/host/lib%.rlib,$(kvm-p9-uses-$(1)))
endef
$(foreach crate,$(kvm-p9-host-crates),$(eval $(call kvm-p9-hostlib-needs,$(crate))))

kvm-p9-hostlibs := $(patsubst %,host/lib%.rlib,$(kvm-p9-host-crates))

$(addprefix $(kvm-p9-out)/,$(kvm-p9-hostlibs)): $(kvm-p9-out)/host/lib%.rlib: \
		$(kvm-p9-in)/%/src/lib.rs FORCE
	+$(call if_changed_dep,kvm_p9_hostlib)

quiet_cmd_kvm_p9_program = HOSTRUSTC $@
      cmd_kvm_p9_program = CARGO_MANIFEST_DIR=. $(HOSTRUSTC) $(kvm-p9-hostflags) $(kvm-p9-about) \
	--crate-type=bin --emit=link=$@ $(kvm-p9-externs) $<; \
	sed -i '/^\#/d' $(depfile)

$(kvm-p9-out)/host/abi: private kvm-p9-externs = --extern kbuild
$(kvm-p9-out)/host/abi: $(kvm-p9-in)/kbuild/src/main.rs $(kvm-p9-out)/host/libkbuild.rlib FORCE
	+$(call if_changed_dep,kvm_p9_program)

$(kvm-p9-out)/host/layout: private kvm-p9-externs = --extern powerpc
$(kvm-p9-out)/host/layout: $(kvm-p9-in)/entry/build.rs $(kvm-p9-out)/host/libpowerpc.rlib FORCE
	+$(call if_changed_dep,kvm_p9_program)

quiet_cmd_kvm_p9_abi = GEN     $@
      cmd_kvm_p9_abi = $(kvm-p9-out)/host/abi abi > $@

$(obj)/kvm_p9_abi.h: $(kvm-p9-out)/host/abi FORCE
	$(call if_changed,kvm_p9_abi)

# Generated headers are in the folder of the objects.
$(foreach object,$(kvm-p9-glue) kvm_p9_light_hv kvm_p9_layout kvm_p9_entry kvm_p9_vectors, \
	$(eval CFLAGS_$(object).o += -I$(obj)) $(eval AFLAGS_$(object).o += -I$(obj)))

kvm-p9-made := $(addprefix p9/,libcore.rlib libcompiler_builtins.rlib $(kvm-p9-rlibs) \
	libentry.a layout.flags $(kvm-p9-hostlibs) host/abi host/layout)

targets += $(kvm-p9-made) kvm_p9_rust.o kvm_p9_layout.s kvm_p9_layout.h kvm_p9_abi.h
clean-files += $(kvm-p9-made) p9/layout.rs kvm_p9_layout.s kvm_p9_layout.h kvm_p9_abi.h
