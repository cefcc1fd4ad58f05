# sentient_edge: a PostgreSQL extension built with PGXS.
#
# make, make install    build and install against PG_CONFIG
# make demo             a real flight log, from nothing to queries (KEEP=1 leaves the server up)
# make test             every suite on throw-away servers of this machine's PostgreSQL
# make test-matrix      the same on PostgreSQL 17 and 18, and pg_upgrade from 15 to 17
# make test-faults      ten minutes (FAULT_SECONDS) of faults while clients submit samples
# make test-sanitize    the SQL suites under AddressSanitizer and UBSan
# make fuzz             each fuzz target for FUZZ_SECONDS (60)
# make bench            ingest measured against a bare table
# make lint             formats, static analysis, house rules
#
# All but the first line install what is missing with apt.

EXTENSION = sentient_edge
EXTVERSION = 1.0
MODULE_big = sentient_edge
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

# The fresh install is composed of these pieces, in this order.
INSTALL_PIECES = roles settings keys sealed reencrypt core auth telemetry mavlink submit analytics audit security_events ledger capture administration restore grants
INSTALL_SQL = sql/$(EXTENSION)--$(EXTVERSION).sql

DATA = $(INSTALL_SQL) $(wildcard sql/released/*.sql sql/updates/*.sql sql/downgrades/*.sql)
EXTRA_CLEAN = $(INSTALL_SQL) $(wildcard src/*/*.o)

PG_CPPFLAGS = -I$(srcdir)/src
SHLIB_LINK = -lcrypto
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers

TOOLS = demo test test-matrix test-faults test-sanitize fuzz bench lint

PG_CONFIG ?= pg_config
override with_llvm = no

# The tools install a missing server themselves, and pg_config alone (libpq-dev) is not enough to build.
ifneq ($(if $(MAKECMDGOALS),$(filter-out $(TOOLS),$(MAKECMDGOALS)),all),)
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifeq ($(PGXS),)
$(error no PostgreSQL server headers at PG_CONFIG=$(PG_CONFIG): install postgresql-server-dev-NN, or type make demo)
endif
include $(PGXS)

all installdata: $(INSTALL_SQL)

$(OBJS): $(wildcard src/*.h src/*/*.h)

$(INSTALL_SQL): $(INSTALL_PIECES:%=sql/install/%.sql) Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION) CASCADE" to load this file. \quit'; \
	  for piece in $(INSTALL_PIECES); do printf '\n-- ---- %s ----\n\n' $$piece; cat sql/install/$$piece.sql; done; } > $@.tmp && mv $@.tmp $@
endif

.PHONY: $(TOOLS)

demo test lint:
	@PG_CONFIG='$(PG_CONFIG)' KEEP='$(KEEP)' test/tools/$@

test-matrix test-sanitize:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/$(@:test-%=%)

test-faults:
	@PG_CONFIG='$(PG_CONFIG)' FAULT_SECONDS='$(or $(FAULT_SECONDS),600)' SUITES=tap \
		TESTS=test/t/052_submit_faults.pl test/tools/test

fuzz:
	@FUZZ_SECONDS='$(or $(FUZZ_SECONDS),60)' test/tools/fuzz

bench:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/bench
