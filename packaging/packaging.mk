# SPDX-License-Identifier: BSD-3-Clause
#
# Releases and packages.

# The tarball holds what is committed, and nothing of the machine or the moment: the
# same commit gives the same bytes (git's own tar, times of the commit).
dist_name := nbdmigrate-$(VERSION)
.PHONY: dist
dist:
	@mkdir -p $(B)
	$(Q)git -c tar.umask=0022 -c safe.directory="*" archive --format=tar --prefix=$(dist_name)/ HEAD \
	  > $(B)/$(dist_name).tar
	$(Q)gzip -9nf $(B)/$(dist_name).tar
	@echo $(B)/$(dist_name).tar.gz

# That the tarball is the same from another clone, and builds, installs and passes the
# unit tests without git: two minutes.
.PHONY: distcheck
distcheck: dist
	@BUILD=$(abspath $(B)) packaging/distcheck.sh $(B)/$(dist_name).tar.gz

# Debian packages are built, installed, used and removed in a system of their own:
# some minutes, as root.
.PHONY: check-packages
check-packages:
	@BUILD=$(abspath $(B)) packaging/check-packages.sh

# The version is the same wherever it is written; the package descriptions fit what
# is installed.
.PHONY: check-version
check-version:
	packaging/check-version.sh $(VERSION)
