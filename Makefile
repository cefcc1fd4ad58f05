# sentient_edge: a PostgreSQL extension built with PGXS.
#
# make, make install   build and install against PG_CONFIG
# make demo, make test everything on a bare Debian machine (see README.md)

EXTENSION = sentient_edge
EXTVERSION = 1.0
MODULE_big = sentient_edge
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

# The fresh install is composed of these pieces, in this order.
INSTALL_PIECES = roles settings core auth telemetry analytics audit administration grants
INSTALL_SQL = sql/$(EXTENSION)--$(EXTVERSION).sql

DATA = $(INSTALL_SQL) $(wildcard sql/released/*.sql sql/updates/*.sql sql/downgrades/*.sql)
EXTRA_CLEAN = $(INSTALL_SQL) $(wildcard src/*/*.o)

PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers

PG_CONFIG ?= pg_config
override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
endif

all: $(INSTALL_SQL)

$(INSTALL_SQL): $(INSTALL_PIECES:%=sql/install/%.sql) Makefile
	{ echo '\echo Use "CREATE EXTENSION $(EXTENSION) CASCADE" to load this file. \quit'; \
	  for piece in $(INSTALL_PIECES); do printf '\n-- ---- %s ----\n\n' $$piece; cat sql/install/$$piece.sql; done; } > $@.tmp && mv $@.tmp $@
