# SPDX-License-Identifier: BSD-3-Clause
#
# The test programs and how they are run.
#
# tests/unit/test-X.c    a CUnit program            $(B)/tests/unit/test-X
# tests/tools/X.c        a program, or a folder X/  $(B)/tests/X
# tests/plugins/X.c      a plugin for nbdkit        $(B)/tests/nbdkit-X-plugin.so
# tests/preload/X.c      for LD_PRELOAD             $(B)/tests/X-preload.so
# tests/exhaustive/      all schedules of the tracker   $(B)/tests/exhaustive
# tests/exhaustive-relay/  the same of the relay        $(B)/tests/exhaustive-relay
# tests/fuzz/fuzz-X.c    any bytes for a reader         $(B)/tests/fuzz-X
#
# A program is linked with all of lib/, a unit test also with whatever it uses
# of the filter and the migrator: these are archives, so that only what is
# asked for comes in and what depends on nbdkit stays out.

PLANTED_BUGS := mark_before_write clear_after_read forget_in_flight \
                drop_failed_lease mirror_no_conflict mirror_into_dirty \
                mirror_into_leased mirror_overlapping mirror_early_reply \
                mirror_forget_demoted mirror_cleans_late throttle_in_the_list \
                throttle_outlives_session lost_keeps_unflushed ignore_failed_sync \
                mark_after_write mark_unsynced load_unsynced clear_unflushed \
                pass_while_voided vouch_for_earlier flush_waits_for_none \
                exchange_keeps_clean late_source_is_clean \
                failed_source_is_clean quiet_from_the_start
PLANTED_MIGRATOR_BUGS := hold_one_by_one
# In the tracker: tests/exhaustive finds these; of some there is a filter above.
PLANTED_TRACKER_BUGS := mark_before_write clear_after_read forget_in_flight \
                        drop_failed_lease mirror_no_conflict \
                        mirror_into_dirty mirror_into_leased \
                        mirror_overlapping mirror_cleans_late \
                        begin_unsettled take_leased \
                        flush_covers_later old_epoch_counts commit_unflushed \
                        expire_in_commit forget_quarantine quiet_in_flight \
                        quiet_touched

# In the relay: tests/exhaustive-relay finds these.
PLANTED_RELAY_BUGS := relay_replies_early relay_flush_covers_later \
                      relay_replays_at_once relay_no_replay relay_no_grace \
                      relay_keeps_nothing relay_flush_beside

src_units   := $(wildcard tests/unit/test-*.c)
src_tools   := $(wildcard tests/tools/*.c tests/tools/*/*.c)
src_plugins := $(wildcard tests/plugins/*.c)
src_preload := $(wildcard tests/preload/*.c)
src_exhaustive := $(wildcard tests/exhaustive/*.c)
src_exhaustive_relay := $(wildcard tests/exhaustive-relay/*.c)

# A program is a file tests/tools/X.c or a folder tests/tools/X/.
tools := $(sort $(foreach s,$(src_tools:tests/tools/%.c=%),\
           $(firstword $(subst /, ,$(s)))))

bin_units   := $(src_units:%.c=$(B)/%)
bin_tools   := $(tools:%=$(B)/tests/%)
bin_plugins := $(src_plugins:tests/plugins/%.c=$(B)/tests/nbdkit-%-plugin.so)
bin_preload := $(src_preload:tests/preload/%.c=$(B)/tests/%-preload.so)
obj_units   := $(src_units:%.c=$(B)/obj/%.o)
obj_tools   := $(src_tools:%.c=$(B)/obj/%.o)
obj_plugins := $(src_plugins:%.c=$(B)/obj/%.o)
obj_exhaustive := $(call objects,$(src_exhaustive))
obj_exhaustive_relay := $(call objects,$(src_exhaustive_relay))

$(obj_units): PKG_CFLAGS = $(call pkg_cflags,$(PKGS_TESTS)) -Inbdkit-plugin \
  -Imigrator
# The demonstration builds some of them, and installs nothing for unit tests.
$(obj_tools): PKG_CFLAGS = $(call pkg_cflags,$(PKGS_MIGRATOR)) -Inbdkit-plugin \
  -Imigrator
$(obj_plugins): PKG_CFLAGS = $(call pkg_cflags,$(PKGS_FILTER)) -Inbdkit-plugin
$(obj_exhaustive): PKG_CFLAGS = -Inbdkit-plugin
$(obj_exhaustive_relay): PKG_CFLAGS = $(call pkg_cflags,libnbd jansson) \
  -Inbdkit-plugin -Itests

# ---- programs --------------------------------------------------------------

$(B)/tests/lib.a: $(obj_lib)
$(B)/tests/filter.a: $(obj_filter)
$(B)/tests/migrator.a: $(obj_migrator)
$(B)/tests/%.a:
	@mkdir -p $(@D)
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $^

$(bin_units): $(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(obj_lib) \
    $(B)/tests/filter.a $(B)/tests/migrator.a
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) $(WRAPS) -o $@ $^ \
	  $(call pkg_libs,$(PKGS_TESTS)) -lm

# Calls that fail in it when it wants that (tests/unit/failing-calls.h).
failing_calls := malloc calloc realloc reallocarray aligned_alloc mmap strdup \
                 strndup asprintf vasprintf __asprintf_chk __vasprintf_chk \
                 open_memstream open openat pwrite \
                 pread fsync fdatasync posix_fallocate ftruncate rename unlink \
                 unlinkat mkdir fstat stat lstat fstatat faccessat fchmod fchown \
                 fchownat flock fdopendir readdir fdopen getline __getdelim \
                 fflush fclose socket bind listen fcntl pthread_create \
                 gnutls_hash_fast gnutls_hash_init gnutls_hash
$(B)/tests/unit/test-dirty-map-calls $(B)/tests/unit/test-relay-calls \
  $(B)/tests/unit/test-state-calls $(B)/tests/unit/test-tracker-calls: WRAPS = \
  $(addprefix -Wl$(comma)--wrap=,$(failing_calls))

.SECONDEXPANSION:
$(bin_tools): $(B)/tests/%: $$(filter $(B)/obj/tests/tools/%.o \
    $(B)/obj/tests/tools/%/$$(any),$(obj_tools)) $(B)/tests/lib.a
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ \
	  $(call pkg_libs,libnbd jansson gnutls) -lm
any := %

$(bin_plugins): $(B)/tests/nbdkit-%-plugin.so: $(B)/obj/tests/plugins/%.o \
    $(B)/tests/filter.a $(B)/tests/lib.a
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -o $@ $^ \
	  $(call pkg_libs,libnbd jansson gnutls)

# Loaded into shells on the way to what is tested, too: never with a sanitizer.
$(bin_preload): SAN :=
$(B)/obj/tests/preload/calls-fail.o: PKG_CFLAGS = $(call pkg_cflags,jansson)
$(B)/tests/calls-fail-preload.so: PRELOAD_LIBS = $(call pkg_libs,jansson)
$(bin_preload): $(B)/tests/%-preload.so: $(B)/obj/tests/preload/%.o
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -o $@ $^ -ldl \
	  $(PRELOAD_LIBS)

# The tracker and nothing else, on a clock of its own.
obj_tracker := $(call objects,$(filter nbdkit-plugin/tracker/%,$(src_filter)) \
                 nbdkit-plugin/base/lane.c lib/bitmap.c lib/extents.c)
$(B)/tests/exhaustive: $(obj_exhaustive) $(obj_tracker)
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ \
	  -Wl,--wrap=clock_gettime,--wrap=pthread_cond_clockwait \
	  -Wl,--wrap=pthread_cond_wait

# The relay and what of remote/ is below it and calls no libnbd, with threads,
# memory and a server of its own; each of two connections has its share.
obj_shared_out := $(PLAIN)/obj/tests/exhaustive-relay/command.o
obj_relay := $(call objects,$(filter nbdkit-plugin/relay/%,$(src_filter)) \
               $(patsubst %,nbdkit-plugin/remote/%.c,ping remote transfer) \
               tests/exhaustive/explore.c) $(obj_shared_out)
$(obj_shared_out): nbdkit-plugin/remote/command.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@) $(CC) $(ALL_CFLAGS) -DFILL_FIRST=1 -Inbdkit-plugin \
	  $(call pkg_cflags,libnbd) -MMD -MP -c -o $@ $<
relay_wraps := malloc calloc realloc free strdup asprintf vasprintf mmap munmap \
               madvise pthread_mutex_init pthread_mutex_destroy \
               pthread_mutex_lock pthread_mutex_unlock pthread_cond_init \
               pthread_cond_destroy pthread_cond_signal pthread_cond_broadcast \
               pthread_cond_wait pthread_cond_clockwait pthread_create \
               pthread_join clock_gettime abort __assert_fail
$(B)/tests/exhaustive-relay: $(obj_exhaustive_relay) $(obj_relay)
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ \
	  $(addprefix -Wl$(comma)--wrap=,$(relay_wraps)) $(call pkg_libs,libnbd jansson)

# What reads files and lines, for libFuzzer (FUZZ=1, clang); else the program gives
# its arguments, files, to the reader once.
fuzzers := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz-*.c))
bin_fuzz := $(fuzzers:%=$(B)/tests/%)
obj_fuzz := $(fuzzers:%=$(B)/obj/tests/fuzz/%.o) $(B)/obj/tests/fuzz/replay.o
obj_files := $(patsubst %,$(B)/obj/nbdkit-plugin/state/%.o,\
               history history-file kept-file owed-file dirty-map dirty-map-file)
$(obj_fuzz): PKG_CFLAGS = $(call pkg_cflags,jansson gnutls nbdkit) -Inbdkit-plugin
bin_readers := $(filter-out %/fuzz-commands,$(bin_fuzz))
$(bin_readers): $(B)/tests/%: $(B)/obj/tests/fuzz/%.o $(obj_files) \
    $(if $(FUZZ),,$(B)/obj/tests/fuzz/replay.o) $(B)/tests/lib.a
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) \
	  $(if $(FUZZ),-fsanitize=fuzzer) -o $@ $^ $(call pkg_libs,jansson gnutls)

# The commands have most of the filter below them.
$(B)/tests/fuzz-commands: $(B)/obj/tests/fuzz/fuzz-commands.o \
    $(if $(FUZZ),,$(B)/obj/tests/fuzz/replay.o) $(B)/tests/filter.a \
    $(B)/tests/lib.a
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALL_CFLAGS) $(LDFLAGS) \
	  $(if $(FUZZ),-fsanitize=fuzzer) -Wl,--wrap=local_look,--wrap=client_process -o $@ $^ \
	  $(call pkg_libs,libnbd jansson gnutls) -lm

# ---- planted bugs ----------------------------------------------------------

# The filter, or the migrator, with one rule broken on purpose: build/bug-NAME/.
# A test shows that each is caught.
.PHONY: planted-bugs
planted-bugs: $(PLANTED_BUGS:%=planted-bug-%) \
              $(PLANTED_MIGRATOR_BUGS:%=planted-migrator-bug-%) \
              $(patsubst %,planted-tracker-bug-%,\
                $(filter-out $(PLANTED_BUGS),$(PLANTED_TRACKER_BUGS))) \
              $(PLANTED_RELAY_BUGS:%=planted-relay-bug-%)
planted = $(MAKE) --no-print-directory BUG=$* B=$(B)/bug-$* PLAIN=$(B)
planted-bug-%: phony $(obj_filter) $(obj_lib) $(obj_exhaustive)
	+$(Q)$(planted) \
	  $(B)/bug-$*/nbdkit-migrate-filter.so \
	  $(if $(filter $*,$(PLANTED_TRACKER_BUGS)),$(B)/bug-$*/tests/exhaustive)
planted-migrator-bug-%: phony $(obj_migrator) $(obj_lib)
	+$(Q)$(planted) $(B)/bug-$*/nbdmigrate
planted-tracker-bug-%: phony $(obj_filter) $(obj_lib) $(obj_exhaustive)
	+$(Q)$(planted) $(B)/bug-$*/tests/exhaustive
planted-relay-bug-%: phony $(obj_filter) $(obj_lib) $(obj_exhaustive_relay) \
    $(obj_exhaustive) $(obj_shared_out)
	+$(Q)$(planted) $(B)/bug-$*/tests/exhaustive-relay

# ---- running ---------------------------------------------------------------

# check-programs: what the tests run, without the planted bugs.
# check-build: all of it.  TESTS='name ...' chooses among them.
# check-units: what needs no more than CUnit and nbdkit.
.PHONY: phony check-programs check-build check check-units demo demo-build
check-programs: all $(bin_units) $(bin_tools) $(bin_plugins) $(bin_preload) \
                $(B)/tests/exhaustive $(B)/tests/exhaustive-relay $(bin_fuzz)
check-build: check-programs planted-bugs
check: check-build
	@BUILD=$(abspath $(B)) tests/run.sh $(TESTS)
check-units: $(bin_units) $(bin_plugins)
	@BUILD=$(abspath $(B)) tests/run.sh $(abspath $(bin_units))

# What becomes of requests after a pivot when the destination fails: all rows,
# in real time; an hour.
.PHONY: relay-matrix
relay-matrix: check-programs
	@BUILD=$(abspath $(B)) FULL=1 tests/test-relay-matrix.sh

# All tests on other releases of Debian, in chroots that are kept, and the table of
# docs/releases.md; as root.  SUITES='bookworm trixie sid', TESTS='name ...' choose
# (tests/releases.sh has more).
.PHONY: releases
releases:
	@mkdir -p $(B) && rm -f $(B)/releases.md
	@status=0; for suite in $(or $(SUITES),trixie sid); do \
	  TABLE=$(abspath $(B))/releases.md tests/releases.sh $$suite $(TESTS) || \
	    [ $$? -eq 77 ] || status=1; \
	done; [ ! -e $(B)/releases.md ] || cat $(B)/releases.md; exit $$status

# 200 rounds of kill -9 after a pivot; SEED=N repeats a run.
.PHONY: check-kill
check-kill: check-programs
	@BUILD=$(abspath $(B)) ROUNDS=$(or $(ROUNDS),200) \
	  TIMEOUT_FACTOR=20 tests/run.sh test-kill-rounds

# Random faults in every phase, for DURATION=TIME or ROUNDS=N (100): tests/campaign/.
# SEED=N repeats it; SEED=N tests/campaign/round.sh one round.
.PHONY: campaign campaign-planted
campaign: check-programs
	@BUILD=$(abspath $(B)) tests/campaign/run.sh
# A rule broken on purpose is found out within 60 rounds.
campaign-planted: check-programs planted-bug-drop_failed_lease \
                  planted-bug-lost_keeps_unflushed
	@BUILD=$(abspath $(B)) tests/campaign/planted.sh drop_failed_lease \
	  lost_keeps_unflushed

# All schedules of the tracker within larger bounds, two minutes; and of the relay,
# some minutes.
.PHONY: exhaustive exhaustive-relay
exhaustive: $(B)/tests/exhaustive
	@$(B)/tests/exhaustive large
exhaustive-relay: $(B)/tests/exhaustive-relay
	@$(B)/tests/exhaustive-relay large

# Which branches of the tracker, the state files and the relay tests take, but for
# most whole migrations (tests/coverage.sh).
.PHONY: coverage coverage-programs
coverage-programs: check-programs
coverage:
	$(Q)$(MAKE) --no-print-directory COVERAGE=1 B=$(B)/coverage \
	  CFLAGS='-O0 -g' coverage-programs
	@BUILD=$(abspath $(B)/coverage) tests/coverage.sh

# Hostile files and lines: SECONDS_EACH for each reader (tests/fuzz/run.sh).
.PHONY: fuzz fuzz-build fuzz-programs
fuzz-programs: $(bin_fuzz)
fuzz-build:
	$(Q)$(MAKE) --no-print-directory CC=clang FUZZ=1 \
	  SANITIZE=address,undefined B=$(B)/fuzz fuzz-programs
	$(Q)$(MAKE) --no-print-directory CC=clang FUZZ=1 BUG=kept_length \
	  SANITIZE=address,undefined B=$(B)/bug-kept_length \
	  $(B)/bug-kept_length/tests/fuzz-kept
	$(Q)$(MAKE) --no-print-directory CC=clang FUZZ=1 BUG=map_promise \
	  SANITIZE=address,undefined B=$(B)/bug-map_promise \
	  $(B)/bug-map_promise/tests/fuzz-dirty-map
	$(Q)$(MAKE) --no-print-directory CC=clang FUZZ=1 BUG=anybody_commands \
	  SANITIZE=address,undefined B=$(B)/bug-anybody_commands PLAIN=$(B)/fuzz \
	  $(B)/bug-anybody_commands/tests/fuzz-commands
fuzz: fuzz-build
	@BUILD=$(abspath $(B)) tests/fuzz/run.sh

# Every call of the filter and of nbdmigrate fails once; an hour or two.  With
# LASTING='ENOSPC EIO EMFILE EAGAIN ENOMEM' all fail from it on that want the same;
# with SHORT=1 nothing is read or written whole.  tests/calls-fail.sh has what else
# can be chosen (SCENARIOS='pivot ...', CALLS, FIRST, EVERY, FROM, STEP, SEED, JOBS).
.PHONY: calls-fail
calls-fail: check-programs
	@BUILD=$(abspath $(B)) tests/calls-fail.sh $(SCENARIOS)

# The rules as a model (docs/model/README.md).
.PHONY: check-model
check-model:
	@BUILD=$(abspath $(B)) docs/model/check.sh

# Recipes of docs/recipes.md that take too long for 'make check'.
.PHONY: check-recipes
check-recipes: check-programs
	@BUILD=$(abspath $(B)) SKIP_IS_FAILURE=1 TIMEOUT_FACTOR=4 \
	  tests/run.sh $(filter-out %/recipe-ceph.sh,$(wildcard tests/recipe-*.sh))

# The one with a cluster of Ceph's, in a chroot of a release that has Ceph 20; as root.
.PHONY: check-ceph
check-ceph:
	@PACKAGES='build short ceph' SKIP_IS_FAILURE=1 \
	  tests/releases.sh $(or $(SUITES),sid) recipe-ceph

# The report's page in headless Chromium, at the width of a phone and of a desk, light
# and dark: what is on it, and whether it can be read.  The pictures go to
# build/report/.
.PHONY: check-report
check-report: check-programs
	@mkdir -p $(B)/report
	@BUILD=$(abspath $(B)) LOOK=1 PICTURES=$(abspath $(B))/report SKIP_IS_FAILURE=1 \
	  TIMEOUT_FACTOR=4 tests/run.sh test-report

demo-build: all $(B)/tests/referee
demo:
	@BUILD=$(abspath $(B)) MAKE='$(MAKE)' examples/demo.sh --no-install

# Figures against other programs, in about twenty minutes; ROWS='dense-file
# guest ...' chooses (tests/bench/run.sh lists all, and what else there is to
# say: ROUNDS, SIZE, PROGRAMS, SEED, OUT).
.PHONY: bench
bench: all $(bin_tools)
	@BUILD=$(abspath $(B)) tests/bench/run.sh $(ROWS)

# How long a guest waits at a cut-over, against qemu-storage-daemon: short, or
# with the figures that docs/performance.md has, ROUNDS=200.
.PHONY: bench-pause
bench-pause: all $(bin_tools)
	@BUILD=$(abspath $(B)) tests/bench/run.sh pause

# ---- how the sources look --------------------------------------------------

.PHONY: check-shell check-spdx check-layers check-rules check-faults check-policy \
        check-messages lint
sh_files = $(wildcard .ci/run report/*.sh tests/*.sh tests/*/*.sh examples/*.sh \
             examples/*/*.sh findings/*.sh docs/*/*.sh packaging/*.sh \
             completion/*.bash)
sh_sourced = $(filter-out tests/test-%,$(wildcard tests/*.sh tests/*/*.sh \
               findings/common.sh))
check-shell: $(patsubst %,$(B)/shell/%.ok,$(sh_files))
# What has not changed, nor what it sources, is not looked at again: it takes
# most of a minute to look at all of them.
$(B)/shell/%.ok: % $(sh_sourced)
	@mkdir -p $(@D)
	$(Q)shellcheck -x $<
	@touch $@
check-spdx:
	tests/check-spdx.sh
check-layers:
	tests/check-layers.sh
check-rules:
	tests/check-rules.sh
check-faults:
	tests/check-faults.sh
check-policy:
	tests/check-policy.sh
check-messages:
	tests/check-messages.sh
lint: check-format check-shell check-spdx check-layers check-rules check-faults \
  check-policy check-messages check-version check-pod
