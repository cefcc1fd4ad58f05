/*
 * events_file.c
 *		Security events that wait while the server is down.
 *
 * The postmaster writes what has not been written to tables yet when it is shut
 * down, and reads and removes it when it starts again.  The file is written under
 * another name, synced and renamed; it begins with a magic number, the size of an
 * event and their number, and ends with a checksum.  One that does not fit, say of
 * another version of the library, is reported and left out, and that is an event of
 * its own.  A crash writes none.
 */
#include "postgres.h"

#include <unistd.h>

#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "events/events_file.h"

#define EVENT_FILE			PGSTAT_STAT_PERMANENT_DIRECTORY "/sentient_edge_events.stat"
#define EVENT_FILE_MAGIC	0x53454556
#define EVENT_FILE_VERSION	1
/* More than any configuration allows. */
#define EVENT_FILE_MAX		1000000

typedef struct EventFileHeader
{
	uint32		magic;
	uint32		version;
	uint32		event_bytes;
	uint32		count;
} EventFileHeader;

bool
event_file_write(EventSource next, void *arg)
{
	EventFileHeader header = {EVENT_FILE_MAGIC, EVENT_FILE_VERSION, sizeof(SecurityEvent), 0};
	SecurityEvent event;
	pg_crc32c	crc;
	FILE	   *file = AllocateFile(EVENT_FILE ".tmp", PG_BINARY_W);
	bool		ok = file != NULL;
	bool		more = true;

	INIT_CRC32C(crc);
	ok = ok && fwrite(&header, sizeof(header), 1, file) == 1;
	while (ok && (more = next(&event, arg)))
	{
		COMP_CRC32C(crc, &event, sizeof(event));
		header.count++;
		ok = fwrite(&event, sizeof(event), 1, file) == 1;
	}
	COMP_CRC32C(crc, &header, sizeof(header));
	FIN_CRC32C(crc);
	ok = ok && fwrite(&crc, sizeof(crc), 1, file) == 1;
	/* The number of events is known last. */
	ok = ok && fseek(file, 0, SEEK_SET) == 0 && fwrite(&header, sizeof(header), 1, file) == 1;
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (ok && header.count > 0)
		ok = durable_rename(EVENT_FILE ".tmp", EVENT_FILE, LOG) == 0;
	else
		(void) unlink(EVENT_FILE ".tmp");
	if (!ok)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("security events that wait could not be kept in file \"%s\": %m", EVENT_FILE)));
	return !more;
}

/* Are these members of a JSON object, as security_event_detail makes them? */
static bool
sound_details(const char *at)
{
	while (*at != '\0')
	{
		if (*at++ != '"' || strspn(at, "abcdefghijklmnopqrstuvwxyz_") == 0)
			return false;
		at += strspn(at, "abcdefghijklmnopqrstuvwxyz_");
		if (strncmp(at, "\": \"", 4) != 0)
			return false;
		for (at += 4; *at != '"'; at++)
		{
			if ((unsigned char) *at < ' ' || (*at == '\\' && *++at != '"' && *at != '\\'))
				return false;
		}
		at++;
		if (strncmp(at, ", \"", 3) == 0)
			at += 2;
		else if (*at != '\0')
			return false;
	}
	return true;
}

/* An inet without its header: family, bits, address. */
static bool
sound_address(const uint8 *address)
{
	return (address[0] == PGSQL_AF_INET && address[1] <= 32) || (address[0] == PGSQL_AF_INET6 && address[1] <= 128);
}

/* Is everything in the event what it should be?  The file may hold anything. */
static bool
sound(const SecurityEvent *event)
{
	const EventKey *key = &event->key;

	return memchr(key->database, '\0', sizeof(key->database)) != NULL &&
		memchr(key->db_role, '\0', sizeof(key->db_role)) != NULL &&
		memchr(key->username, '\0', sizeof(key->username)) != NULL &&
		memchr(key->object, '\0', sizeof(key->object)) != NULL &&
		memchr(key->message, '\0', sizeof(key->message)) != NULL &&
		memchr(event->key.application_name, '\0', sizeof(event->key.application_name)) != NULL &&
		memchr(event->key.details, '\0', sizeof(event->key.details)) != NULL && sound_details(key->details) &&
		(!key->has_address || sound_address(key->address)) &&
		IS_VALID_TIMESTAMP(event->first_at) && IS_VALID_TIMESTAMP(event->last_at) && event->amount >= 0 &&
		key->type < EVENT_TYPES && key->outcome <= EVENT_NO_OUTCOME && key->severity <= SEVERITY_DEBUG &&
		event->count > 0;
}

/* What was in a file that cannot be read: at least one event. */
static void
put_lost(void (*put) (const SecurityEvent *event), int64 count)
{
	SecurityEvent event;

	memset(&event, 0, sizeof(event));
	event.key.type = EVENT_EVENTS_LOST;
	event.key.outcome = EVENT_NO_OUTCOME;
	event.key.severity = SEVERITY_ALERT;
	strlcpy(event.key.message, "security events that waited while the server was down were lost: their file is damaged", sizeof(event.key.message));
	event.first_at = event.last_at = GetCurrentTimestamp();
	event.count = count;
	put(&event);
}

void
event_file_read(void (*put) (const SecurityEvent *event))
{
	EventFileHeader header = {0};
	SecurityEvent event;
	pg_crc32c	crc;
	pg_crc32c	stored;
	FILE	   *file = AllocateFile(EVENT_FILE, PG_BINARY_R);
	bool		ok;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", EVENT_FILE)));
		return;
	}

	/* Once to see whether it is whole, once to take it. */
	INIT_CRC32C(crc);
	ok = fread(&header, sizeof(header), 1, file) == 1 &&
		header.magic == EVENT_FILE_MAGIC && header.version == EVENT_FILE_VERSION &&
		header.event_bytes == sizeof(SecurityEvent) && header.count <= EVENT_FILE_MAX;
	for (uint32 i = 0; ok && i < header.count; i++)
	{
		ok = fread(&event, sizeof(event), 1, file) == 1 && sound(&event);
		COMP_CRC32C(crc, &event, sizeof(event));
	}
	COMP_CRC32C(crc, &header, sizeof(header));
	FIN_CRC32C(crc);
	ok = ok && fread(&stored, sizeof(stored), 1, file) == 1 && EQ_CRC32C(stored, crc) &&
		fseek(file, sizeof(header), SEEK_SET) == 0;
	for (uint32 i = 0; ok && i < header.count; i++)
	{
		if (fread(&event, sizeof(event), 1, file) == 1 && sound(&event))
			put(&event);
	}
	(void) FreeFile(file);
	(void) unlink(EVENT_FILE);
	if (!ok)
	{
		put_lost(put, header.magic == EVENT_FILE_MAGIC && header.count > 0 && header.count <= EVENT_FILE_MAX ? header.count : 1);
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring invalid data in file \"%s\"", EVENT_FILE),
				 errdetail("Security events that waited when the server was shut down are lost.")));
	}
}
