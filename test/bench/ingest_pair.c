/*
 * ingest_pair.c
 *		Measures two ways of storing the same samples, in turn, and prints both
 *		rates and their ratio.
 *
 *		ingest_pair LABEL TARGET ROUNDS BATCHES KIND_A CONNINFO_A KIND_B CONNINFO_B
 *
 * A round stores BATCHES transactions of 1000 samples by A, then by B; samples of
 * all bench drones of the database (200, or a large fleet) at 1 Hz, interleaved as
 * they arrive, 13 columns.  In every second the drones come in another order, so
 * that a large fleet's transactions are never of the same drones twice.  The rates
 * are the medians over the rounds, the ratio is the median of the rounds' ratios A/B.
 * Kinds:
 *		batch		telemetry.ingest_batch, prepared, binary arrays
 *		json		telemetry.ingest, prepared, one JSON array of the founding API's seven keys
 *		copy		binary COPY FROM STDIN into bench.bare
 *		recordset	INSERT ... SELECT FROM jsonb_to_recordset ... ON CONFLICT DO
 *					NOTHING into bench.bare, prepared, the same JSON array
 *
 * test/bench/run builds it, sets up the databases and calls it.
 */
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#define ROWS		1000		/* a transaction */
#define FLOAT8S		9			/* latitude .. signal: columns sent as double precision arrays */
#define INTS		2

#define UUIDOID			2950
#define TIMESTAMPTZOID	1184
#define FLOAT8OID		701
#define INT4OID			23

typedef struct Buffer
{
	char	   *data;
	size_t		used;
	size_t		size;
} Buffer;

typedef struct Row
{
	uint8_t		drone[16];
	int64_t		time_us;		/* since 2000-01-01 UTC */
	double		values[FLOAT8S];
	int32_t		ints[INTS];
} Row;

typedef struct Side
{
	const char *kind;
	PGconn	   *conn;
	int			ndrones;
	uint8_t		(*drone_ids)[16];
	long		next;			/* the next sample; one of each drone makes a second */
	double		rates[100];
} Side;

static void die(const char *what, PGconn *conn) __attribute__((noreturn));

static void
die(const char *what, PGconn *conn)
{
	fprintf(stderr, "ingest_pair: %s: %s\n", what, conn ? PQerrorMessage(conn) : "");
	exit(1);
}

static void
put(Buffer *buffer, const void *data, size_t length)
{
	if (buffer->used + length > buffer->size)
	{
		buffer->size = (buffer->used + length) * 2;
		buffer->data = realloc(buffer->data, buffer->size);
		if (buffer->data == NULL)
			die("out of memory", NULL);
	}
	memcpy(buffer->data + buffer->used, data, length);
	buffer->used += length;
}

static void
put16(Buffer *buffer, uint16_t value)
{
	value = htobe16(value);
	put(buffer, &value, sizeof(value));
}

static void
put32(Buffer *buffer, uint32_t value)
{
	value = htobe32(value);
	put(buffer, &value, sizeof(value));
}

static void
put64(Buffer *buffer, uint64_t value)
{
	value = htobe64(value);
	put(buffer, &value, sizeof(value));
}

static void
put_float8(Buffer *buffer, double value)
{
	uint64_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	put64(buffer, bits);
}

static void
put_float4(Buffer *buffer, float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	put32(buffer, bits);
}

static void
make_rows(Side *side, Row *rows)
{
	/* 2026-01-05 00:00:00 UTC, in microseconds since 2000-01-01. */
	const int64_t start_us = INT64_C(820886400) * 1000000;

	for (int i = 0; i < ROWS; i++)
	{
		long		second = (side->next + i) / side->ndrones;
		long		place = (side->next + i) % side->ndrones;
		int			drone = (place * 7919 + second * 104729) % side->ndrones;	/* primes: each drone once */

		memcpy(rows[i].drone, side->drone_ids[drone], 16);
		rows[i].time_us = start_us + second * INT64_C(1000000) + drone % 1000 * 1000;
		for (int v = 0; v < FLOAT8S; v++)
			rows[i].values[v] = 10.0 + v * 3 + (double) ((second * 7 + drone * 13 + v) % 1000) / 32;
		rows[i].values[8] = -60 - (drone + second) % 30;
		rows[i].ints[0] = 8 + drone % 6;
		rows[i].ints[1] = 3;
	}
	side->next += ROWS;
}

static double
seconds_since(const struct timespec *before)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - before->tv_sec) + (now.tv_nsec - before->tv_nsec) / 1e9;
}

/*
 * Each of these encodes the rows, then sends them as one transaction and returns
 * the seconds from the first byte sent to the answer.
 */
static double
send_copy(Side *side, const Row *rows)
{
	static Buffer buffer;
	struct timespec before;
	PGresult   *result;

	buffer.used = 0;
	put(&buffer, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
	for (int i = 0; i < ROWS; i++)
	{
		put16(&buffer, 2 + FLOAT8S + INTS);
		put32(&buffer, 16);
		put(&buffer, rows[i].drone, 16);
		put32(&buffer, 8);
		put64(&buffer, rows[i].time_us);
		for (int v = 0; v < FLOAT8S; v++)
		{
			if (v < 2)
			{
				put32(&buffer, 8);
				put_float8(&buffer, rows[i].values[v]);
			}
			else
			{
				put32(&buffer, 4);
				put_float4(&buffer, (float) rows[i].values[v]);
			}
		}
		for (int v = 0; v < INTS; v++)
		{
			put32(&buffer, 2);
			put16(&buffer, rows[i].ints[v]);
		}
	}
	put16(&buffer, 0xFFFF);

	clock_gettime(CLOCK_MONOTONIC, &before);
	result = PQexec(side->conn, "COPY bench.bare (drone_id, recorded_at, latitude, longitude, altitude_m,"
					" relative_altitude_m, battery_percentage, ground_speed_ms, vertical_speed_ms, heading_deg,"
					" signal_strength_dbm, gps_satellites, gps_fix) FROM STDIN (FORMAT binary)");
	if (PQresultStatus(result) != PGRES_COPY_IN)
		die("COPY", side->conn);
	PQclear(result);
	if (PQputCopyData(side->conn, buffer.data, buffer.used) != 1 || PQputCopyEnd(side->conn, NULL) != 1)
		die("COPY data", side->conn);
	while ((result = PQgetResult(side->conn)) != NULL)
	{
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die("COPY end", side->conn);
		PQclear(result);
	}
	return seconds_since(&before);
}

static void
begin_array(Buffer *buffer, uint32_t type)
{
	buffer->used = 0;
	put32(buffer, 1);			/* dimensions */
	put32(buffer, 0);			/* no NULLs */
	put32(buffer, type);
	put32(buffer, ROWS);
	put32(buffer, 1);			/* lower bound */
}

static void
expect_accepted(Side *side, PGresult *result)
{
	const char *stored;

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		stored = PQgetvalue(result, 0, 0);
	else if (PQresultStatus(result) == PGRES_COMMAND_OK)
		stored = PQcmdTuples(result);
	else
		die(side->kind, side->conn);
	if (atoi(stored) != ROWS)
	{
		fprintf(stderr, "ingest_pair: %s stored %s of %d samples\n", side->kind, stored, ROWS);
		exit(1);
	}
	PQclear(result);
}

static double
send_batch(Side *side, const Row *rows)
{
	static Buffer buffers[2 + FLOAT8S + INTS];
	const char *values[2 + FLOAT8S + INTS];
	int			lengths[2 + FLOAT8S + INTS];
	int			formats[2 + FLOAT8S + INTS];
	struct timespec before;

	begin_array(&buffers[0], UUIDOID);
	begin_array(&buffers[1], TIMESTAMPTZOID);
	for (int v = 0; v < FLOAT8S; v++)
		begin_array(&buffers[2 + v], FLOAT8OID);
	for (int v = 0; v < INTS; v++)
		begin_array(&buffers[2 + FLOAT8S + v], INT4OID);
	for (int i = 0; i < ROWS; i++)
	{
		put32(&buffers[0], 16);
		put(&buffers[0], rows[i].drone, 16);
		put32(&buffers[1], 8);
		put64(&buffers[1], rows[i].time_us);
		for (int v = 0; v < FLOAT8S; v++)
		{
			put32(&buffers[2 + v], 8);
			put_float8(&buffers[2 + v], rows[i].values[v]);
		}
		for (int v = 0; v < INTS; v++)
		{
			put32(&buffers[2 + FLOAT8S + v], 4);
			put32(&buffers[2 + FLOAT8S + v], rows[i].ints[v]);
		}
	}
	for (int p = 0; p < 2 + FLOAT8S + INTS; p++)
	{
		values[p] = buffers[p].data;
		lengths[p] = buffers[p].used;
		formats[p] = 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &before);
	expect_accepted(side, PQexecPrepared(side->conn, "batch", 2 + FLOAT8S + INTS, values, lengths, formats, 0));
	return seconds_since(&before);
}

static double
send_json(Side *side, const Row *rows)
{
	static Buffer buffer;
	char		text[512];
	const char *values[1];
	struct timespec before;

	buffer.used = 0;
	put(&buffer, "[", 1);
	for (int i = 0; i < ROWS; i++)
	{
		const uint8_t *d = rows[i].drone;
		time_t		seconds = rows[i].time_us / 1000000 + INT64_C(946684800);
		struct tm	tm;
		int			length;

		gmtime_r(&seconds, &tm);
		length = snprintf(text, sizeof(text),
						  "%s{\"droneId\":\"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\","
						  "\"timestamp\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\",\"latitude\":%.7f,\"longitude\":%.7f,"
						  "\"altitude_m\":%.2f,\"battery_percentage\":%.1f,\"ground_speed_ms\":%.2f",
						  i == 0 ? "" : ",",
						  d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15],
						  tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
						  (int) (rows[i].time_us / 1000 % 1000), rows[i].values[0], rows[i].values[1],
						  rows[i].values[2], rows[i].values[4], rows[i].values[5]);
		put(&buffer, text, length);
		put(&buffer, "}", 1);
	}
	put(&buffer, "]", 2);		/* with the closing NUL */
	values[0] = buffer.data;
	clock_gettime(CLOCK_MONOTONIC, &before);
	expect_accepted(side, PQexecPrepared(side->conn, side->kind, 1, values, NULL, NULL, 0));
	return seconds_since(&before);
}

static void
prepare(Side *side)
{
	const char *statement = NULL;

	if (strcmp(side->kind, "batch") == 0)
		statement = "SELECT * FROM telemetry.ingest_batch(drone_ids => $1, recorded_at => $2, latitude => $3,"
			" longitude => $4, altitude_m => $5, relative_altitude_m => $6, battery_percentage => $7,"
			" ground_speed_ms => $8, vertical_speed_ms => $9, heading_deg => $10, signal_strength_dbm => $11,"
			" gps_satellites => $12, gps_fix => $13)";
	else if (strcmp(side->kind, "json") == 0)
		statement = "SELECT * FROM telemetry.ingest($1)";
	else if (strcmp(side->kind, "recordset") == 0)
		statement = "INSERT INTO bench.bare (drone_id, recorded_at, latitude, longitude, altitude_m,"
			" battery_percentage, ground_speed_ms)"
			" SELECT * FROM jsonb_to_recordset($1) AS s (\"droneId\" uuid, \"timestamp\" timestamptz,"
			" latitude float8, longitude float8, altitude_m real, battery_percentage real,"
			" ground_speed_ms real) ON CONFLICT DO NOTHING";
	if (statement != NULL)
	{
		PGresult   *result = PQprepare(side->conn, side->kind, statement, 0, NULL);

		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die("prepare", side->conn);
		PQclear(result);
	}
}

/* Store some batches; returns rows a second. */
static double
run(Side *side, int batches)
{
	static Row	rows[ROWS];
	double		seconds = 0;

	for (int i = 0; i < batches; i++)
	{
		make_rows(side, rows);
		if (strcmp(side->kind, "copy") == 0)
			seconds += send_copy(side, rows);
		else if (strcmp(side->kind, "batch") == 0)
			seconds += send_batch(side, rows);
		else
			seconds += send_json(side, rows);
	}
	return batches * (double) ROWS / seconds;
}

static int
compare_double(const void *a, const void *b)
{
	double		left = *(const double *) a;
	double		right = *(const double *) b;

	return left < right ? -1 : left > right;
}

static double
median(double *values, int n)
{
	qsort(values, n, sizeof(double), compare_double);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void
load_drones(Side *side)
{
	PGresult   *result = PQexecParams(side->conn, "SELECT drone_id FROM core.drones WHERE call_sign LIKE 'bench-%' ORDER BY call_sign", 0,
									  NULL, NULL, NULL, NULL, 1);

	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) == 0)
		die("reading the drones", side->conn);
	side->ndrones = PQntuples(result);
	side->drone_ids = calloc(side->ndrones, 16);
	if (side->drone_ids == NULL)
		die("out of memory", NULL);
	for (int i = 0; i < side->ndrones; i++)
		memcpy(side->drone_ids[i], PQgetvalue(result, i, 0), 16);
	PQclear(result);
}

int
main(int argc, char **argv)
{
	Side		sides[2];
	double		ratios[100];
	int			rounds;
	int			batches;

	if (argc != 9)
		die("wrong arguments, see the head of the source", NULL);
	rounds = atoi(argv[3]);
	batches = atoi(argv[4]);
	if (rounds < 1 || rounds > 100 || batches < 1)
		die("1 to 100 rounds, at least 1 batch", NULL);

	for (int i = 0; i < 2; i++)
	{
		PGresult   *result;

		sides[i].kind = argv[5 + 2 * i];
		sides[i].conn = PQconnectdb(argv[6 + 2 * i]);
		if (PQstatus(sides[i].conn) != CONNECTION_OK)
			die("connection", sides[i].conn);

		/* Begin behind what an earlier run stored; other drones may be a second ahead of this one. */
		result = PQexec(sides[i].conn, "SELECT greatest(max(t), 0) FROM (SELECT ceil(extract(epoch FROM"
						" max(recorded_at) - '2026-01-05 00:00:00+00'))::bigint + 2 AS t FROM bench.bare WHERE drone_id = md5('1')::uuid"
						" UNION ALL SELECT ceil(extract(epoch FROM"
						" max(recorded_at) - '2026-01-05 00:00:00+00'))::bigint + 2 FROM telemetry.drone_latest"
						" WHERE drone_id = md5('1')::uuid) s");
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			die("start", sides[i].conn);
		load_drones(&sides[i]);
		sides[i].next = atol(PQgetvalue(result, 0, 0)) * sides[i].ndrones;
		PQclear(result);
		prepare(&sides[i]);
	}

	/* Warm up; each drone has its latest state then. */
	for (int i = 0; i < 2; i++)
		run(&sides[i], 20 + sides[i].ndrones / ROWS);

	for (int round = 0; round < rounds; round++)
	{
		for (int i = 0; i < 2; i++)
			sides[i].rates[round] = run(&sides[i], batches);
		ratios[round] = sides[0].rates[round] / sides[1].rates[round];
	}

	printf("%-52s %9.0f %9.0f rows/s   %5.2fx   (at least %s)\n", argv[1],
		   median(sides[0].rates, rounds), median(sides[1].rates, rounds), median(ratios, rounds), argv[2]);
	return 0;
}
