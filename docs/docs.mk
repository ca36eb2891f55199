# SPDX-License-Identifier: BSD-3-Clause
#
# The manuals: docs/NAME.pod to $(B)/man/manS/NAME.S.  Pages of section 7 are
# listed here, all others are of section 1.

POD7 := nbdmigrate-control

pods  := $(wildcard docs/*.pod)
names := $(pods:docs/%.pod=%)
man1  := $(patsubst %,$(B)/man/man1/%.1,$(filter-out $(POD7),$(names)))
man7  := $(patsubst %,$(B)/man/man7/%.7,$(filter $(POD7),$(names)))

pod2man = pod2man --errors=die --utf8 --center='nbdmigrate manual' \
  --release='nbdmigrate $(VERSION)'

.PHONY: man install-man uninstall-man check-pod
man: $(man1) $(man7)

$(man1): $(B)/man/man1/%.1: docs/%.pod Makefile
	@mkdir -p $(@D)
	$(call say,MAN,$@) $(pod2man) --section=1 --name=$* $< $@

$(man7): $(B)/man/man7/%.7: docs/%.pod Makefile
	@mkdir -p $(@D)
	$(call say,MAN,$@) $(pod2man) --section=7 --name=$* $< $@

install-man: man
	install -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man7
	install -m 644 $(man1) $(DESTDIR)$(MANDIR)/man1/
	install -m 644 $(man7) $(DESTDIR)$(MANDIR)/man7/

uninstall-man:
	rm -f $(man1:$(B)/man/%=$(DESTDIR)$(MANDIR)/%) \
	  $(man7:$(B)/man/%=$(DESTDIR)$(MANDIR)/%)

check-pod:
	podchecker -warnings $(pods)
