# SPDX-License-Identifier: BSD-3-Clause
#
# make                build/nbdmigrate and build/nbdkit-migrate-filter.so
# make check          all tests (installs nothing); make demo: the demonstration
# make install        DESTDIR= PREFIX= FILTERDIR=, and more below; make uninstall
# make dist           the tarball of a release (packaging/packaging.mk)
# V=1                 show the commands
# WERROR=1            warnings are errors (CI)
# SANITIZE=address,undefined | thread    in a build directory of its own
# COVERAGE=1          count branches; in a build directory of its own, too
# BUG=name            plant a bug on purpose (tests/tests.mk lists them)

PKGS_LIB      := jansson gnutls
PKGS_FILTER   := nbdkit libnbd jansson gnutls
PKGS_MIGRATOR := libnbd jansson gnutls
PKGS_TESTS    := libnbd jansson gnutls cunit

VERSION := 1.0.0
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR ?= $(PREFIX)/share/zsh/site-functions
PKG_CONFIG ?= pkg-config
FILTERDIR ?= $(shell $(PKG_CONFIG) --variable=filterdir nbdkit)

# Each variant (sanitizer, planted bug) gets its own directory, so that
# switching between them never mixes objects.
comma := ,
B ?= build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))$(if $(COVERAGE),/coverage)$(if $(BUG),/bug-$(BUG))

# clang looks into what nbdkit's macros define, as gcc does not.
clang_warns := -Wno-missing-prototypes

CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes \
            -Wmissing-prototypes -Werror=incompatible-pointer-types \
            $(if $(FUZZ),$(clang_warns)) $(if $(WERROR),-Werror)
DEFS     := -D_GNU_SOURCE -DNBDMIGRATE_VERSION='"$(VERSION)"' \
            $(if $(BUG),-DPLANT_BUG_$(BUG))
SAN      := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
              $(if $(findstring undefined,$(SANITIZE)),-fno-sanitize-recover=undefined)) \
            $(if $(FUZZ),-fsanitize=fuzzer-no-link) \
            $(if $(COVERAGE),--coverage)
ALL_CFLAGS = -std=gnu11 -fPIC -pthread $(WARN) $(DEFS) $(SAN) -Ilib \
             $(CFLAGS) $(CPPFLAGS)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2);)

.DELETE_ON_ERROR:
.PHONY: all
all: $(B)/nbdmigrate $(B)/nbdmigrate-report $(B)/nbdkit-migrate-filter.so man

# ---- objects ---------------------------------------------------------------

src_lib      := $(wildcard lib/*.c)
src_filter   := $(wildcard nbdkit-plugin/*/*.c)
src_migrator := $(wildcard migrator/*/*.c)

# With PLAIN=DIR, a build without it, a planted bug takes from there what it does
# not touch.  One in a header may touch everything.
PLAIN ?= $(B)
touched := $(if $(BUG),$(shell grep -rlw PLANT_BUG_$(BUG) lib nbdkit-plugin migrator))
ifneq ($(filter %.h,$(touched)),)
override PLAIN := $(B)
endif
objects = $(foreach s,$(1),$(if $(filter $(s),$(touched)),$(B),$(PLAIN))/obj/$(s:.c=.o))
obj_lib      := $(call objects,$(src_lib))
obj_filter   := $(call objects,$(src_filter))
obj_migrator := $(call objects,$(src_migrator))

pkg_cflags = $(shell $(PKG_CONFIG) --cflags $(1))
pkg_libs   = $(shell $(PKG_CONFIG) --libs $(1))

$(obj_lib): PKG_CFLAGS := $(call pkg_cflags,$(PKGS_LIB))
$(obj_filter): PKG_CFLAGS := $(call pkg_cflags,$(PKGS_FILTER)) -Inbdkit-plugin
$(obj_migrator): PKG_CFLAGS := $(call pkg_cflags,$(PKGS_MIGRATOR)) -Imigrator

$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/nbdmigrate: $(obj_migrator) $(obj_lib)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ \
	  $(call pkg_libs,$(PKGS_MIGRATOR)) -lm

# One file, with all that it includes.
$(B)/nbdmigrate-report: report/nbdmigrate-report.sh $(wildcard report/*.*) Makefile
	@mkdir -p $(@D)
	$(call say,MAKE,$@) awk \
	  '$$1 == "@include" { f = "report/" $$2; \
	     while ((r = (getline line < f)) > 0) print line; \
	     if (r < 0) exit 1; close (f); next } \
	   { gsub (/@VERSION@/, "$(VERSION)"); print }' $< > $@
	@chmod +x $@

# nodelete: nbdkit unloads filters before a sanitizer writes its report.
$(B)/nbdkit-migrate-filter.so: $(obj_filter) $(obj_lib) nbdkit-plugin/filter/filter.syms
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared \
	  -Wl,--version-script=nbdkit-plugin/filter/filter.syms \
	  $(if $(SANITIZE),-Wl$(comma)-z$(comma)nodelete) -o $@ \
	  $(obj_filter) $(obj_lib) $(call pkg_libs,libnbd jansson gnutls)

include docs/docs.mk
include tests/tests.mk
include packaging/packaging.mk

# ---- housekeeping ----------------------------------------------------------

.PHONY: format check-format install uninstall clean
c_files = $(wildcard lib/*.[ch] nbdkit-plugin/*/*.[ch] migrator/*/*.[ch] \
            tests/*.[ch] tests/*/*.[ch] examples/*/*.[ch])
format:
	clang-format -i $(c_files)
check-format:
	$(Q)clang-format --dry-run --Werror $(c_files)

install: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(FILTERDIR) \
	  $(DESTDIR)$(BASHCOMPDIR) $(DESTDIR)$(ZSHCOMPDIR)
	install -m 755 $(B)/nbdmigrate $(B)/nbdmigrate-report $(DESTDIR)$(BINDIR)/
	install -m 755 $(B)/nbdkit-migrate-filter.so $(DESTDIR)$(FILTERDIR)/
	install -m 644 completion/nbdmigrate.bash $(DESTDIR)$(BASHCOMPDIR)/nbdmigrate
	install -m 644 completion/_nbdmigrate $(DESTDIR)$(ZSHCOMPDIR)/
	$(MAKE) install-man

uninstall: uninstall-man
	rm -f $(DESTDIR)$(BINDIR)/nbdmigrate $(DESTDIR)$(BINDIR)/nbdmigrate-report \
	  $(DESTDIR)$(FILTERDIR)/nbdkit-migrate-filter.so \
	  $(DESTDIR)$(BASHCOMPDIR)/nbdmigrate $(DESTDIR)$(ZSHCOMPDIR)/_nbdmigrate

clean:
	rm -rf build

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
