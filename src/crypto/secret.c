/*
 * secret.c
 *		Memory for key bytes: the one place where they lie.
 *
 * Two areas of the same make.  The postmaster's holds the master keys: it is
 * shared by all its children and read-only once they are loaded.  Each
 * process's own holds the data keys that it has unwrapped; a child never gets
 * it.  Both are left out of core dumps, locked into memory where RLIMIT_MEMLOCK
 * allows it, and zeroed when their process ends.
 *
 * OpenSSL keeps key schedules in ordinary memory, and what is sealed passes
 * through it, too.  So a process that holds a data key writes no core dump at
 * all, and cannot be looked into by other processes of its user, unless the
 * administrator wants it so.
 */
#include "postgres.h"

#include <sys/mman.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"

#include "crypto/secret.h"
#include "errors.h"

#define SECRETS_AN_AREA		1024

typedef struct SecretArea
{
	uint8	   *bytes;			/* a mapping, or NULL */
	size_t		size;
	int			owner;			/* pid of the process that zeroes it */
	bool		used[SECRETS_AN_AREA];
} SecretArea;

bool		secret_core_dump = false;

static SecretArea server_area;	/* made by the postmaster while it loads libraries */
static SecretArea process_area;

void
secret_zero(void *bytes, size_t length)
{
	explicit_bzero(bytes, length);
}

/* Exit callback; also of children that have inherited the area, to whom it does nothing. */
static void
zero_area(int code, Datum arg)
{
	SecretArea *area = (SecretArea *) DatumGetPointer(arg);

	if (area->bytes == NULL || area->owner != (int) getpid())
		return;
	if (mprotect(area->bytes, area->size, PROT_READ | PROT_WRITE) == 0)
		secret_zero(area->bytes, area->size);
}

/* Make an area; false when the system has no memory. */
static bool
make_area(SecretArea *area, bool shared)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);
	size_t		size = TYPEALIGN(page, SECRETS_AN_AREA * SECRET_BYTES);
	void	   *bytes;

	/* cppcheck-suppress invalidFunctionArg ; no file */
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	if (bytes == MAP_FAILED)
		return false;
#ifdef MADV_DONTDUMP
	(void) madvise(bytes, size, MADV_DONTDUMP);
#endif
#ifdef MADV_DONTFORK
	if (!shared)
		(void) madvise(bytes, size, MADV_DONTFORK);
#endif
	(void) mlock(bytes, size);
	memset(area, 0, sizeof(*area));
	area->bytes = bytes;
	area->size = size;
	area->owner = (int) getpid();
	on_proc_exit(zero_area, PointerGetDatum(area));
	return true;
}

/* From here on this process has something that a core dump would give away. */
static void
close_process(void)
{
#ifdef PR_SET_DUMPABLE
	if (!secret_core_dump)
		(void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

uint8 *
secret_new(void)
{
	bool		starting = process_shared_preload_libraries_in_progress;
	SecretArea *area = starting ? &server_area : &process_area;

	if (area->bytes == NULL)
	{
		if (!make_area(area, starting))
			return NULL;
		if (!starting)
			close_process();
	}
	for (int i = 0; i < SECRETS_AN_AREA; i++)
	{
		if (!area->used[i])
		{
			area->used[i] = true;
			return area->bytes + i * SECRET_BYTES;
		}
	}
	return NULL;
}

void
secret_free(uint8 *secret)
{
	SecretArea *areas[] = {&process_area, &server_area};

	if (secret == NULL)
		return;
	for (int i = 0; i < lengthof(areas); i++)
	{
		if (areas[i]->bytes != NULL && secret >= areas[i]->bytes && secret < areas[i]->bytes + areas[i]->size)
		{
			secret_zero(secret, SECRET_BYTES);
			areas[i]->used[(secret - areas[i]->bytes) / SECRET_BYTES] = false;
			return;
		}
	}
	se_assert(false);
}

void
secret_seal(void)
{
	if (server_area.bytes != NULL)
		(void) mprotect(server_area.bytes, server_area.size, PROT_READ);
}
