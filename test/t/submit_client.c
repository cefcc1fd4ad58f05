/*
 * submit_client.c
 *		A client that submits samples one by one and writes down what it was told.
 *
 *		submit_client CONNINFO LOG FIRST_CLIENT CLIENTS DRONES STATEMENT_TIMEOUT
 *
 * Built and run by 052_submit_faults.pl.  Each client is a process, which sends
 * until it gets SIGTERM.  Sample n of client c has a time of its own: c * 1000 s +
 * n ms after 2026-03-01.  For every sample at least one line goes to LOG, in one
 * write: "client n SQLSTATE accepted duplicate rejected".  SQLSTATE 00000 is an
 * answer, 08006 a lost connection.  After an error every other sample is sent
 * again until it is answered, the rest are not.  LOG also gets a line with n = -1
 * once a client has begun.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libpq-fe.h>

static volatile sig_atomic_t stopping = 0;
static int	log_file;

static void
on_term(int signal_number)
{
	stopping = 1;
}

static void
write_down(int client, long n, const char *state, const char *accepted, const char *duplicate, const char *rejected)
{
	char		line[128];
	int			length = snprintf(line, sizeof(line), "%d\t%ld\t%s\t%s\t%s\t%s\n",
								  client, n, state, accepted, duplicate, rejected);

	if (write(log_file, line, length) != length)
		exit(3);
}

static PGconn *
get_connection(const char *conninfo, const char *statement_timeout)
{
	char		command[64];

	while (!stopping)
	{
		PGconn	   *conn = PQconnectdb(conninfo);

		if (PQstatus(conn) == CONNECTION_OK)
		{
			if (strcmp(statement_timeout, "0") != 0)
			{
				snprintf(command, sizeof(command), "SET statement_timeout = %s", statement_timeout);
				PQclear(PQexec(conn, command));
			}
			return conn;
		}
		PQfinish(conn);
		usleep(50000);
	}
	return NULL;
}

/* Send sample n; true when it was answered. */
static int
send_sample(PGconn *conn, int client, long n, int drones)
{
	char		drone[64];
	char		offset[64];
	const char *values[2] = {drone, offset};
	PGresult   *result;
	int			answered;

	snprintf(drone, sizeof(drone), "52000000-0000-4000-8000-%012d", (int) (1 + n % drones));
	snprintf(offset, sizeof(offset), "%ld", client * 1000000L + n);
	result = PQexecParams(conn,
						  "SELECT accepted, duplicate, rejected FROM telemetry.submit_sample($1::uuid,"
						  " timestamptz '2026-03-01 00:00:00+00' + $2::bigint * interval '1 millisecond',"
						  " latitude => ($2::bigint % 90)::float8, longitude => ($2::bigint % 180)::float8)",
						  2, NULL, values, NULL, NULL, 0);
	answered = PQresultStatus(result) == PGRES_TUPLES_OK;
	if (answered)
		write_down(client, n, "00000", PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2));
	else
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		write_down(client, n, state != NULL ? state : "08006", "0", "0", "0");
	}
	PQclear(result);
	return answered;
}

static void
run_client(const char *conninfo, int client, int drones, const char *statement_timeout)
{
	PGconn	   *conn = get_connection(conninfo, statement_timeout);

	write_down(client, -1, "00000", "0", "0", "0");
	for (long n = 0; conn != NULL && !stopping; n++)
	{
		while (!send_sample(conn, client, n, drones) && !stopping)
		{
			if (PQstatus(conn) != CONNECTION_OK)
			{
				PQfinish(conn);
				conn = get_connection(conninfo, statement_timeout);
			}
			if (conn == NULL || n % 2 == 0)
				break;
		}
	}
	PQfinish(conn);
	exit(0);
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_term};
	int			first;
	int			clients;

	if (argc != 7)
		return 2;
	log_file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (log_file < 0)
		return 3;
	setvbuf(stdout, NULL, _IONBF, 0);
	sigaction(SIGTERM, &action, NULL);
	first = atoi(argv[3]);
	clients = atoi(argv[4]);
	for (int i = 0; i < clients; i++)
	{
		pid_t		pid = fork();

		if (pid < 0)
			return 4;
		if (pid == 0)
			run_client(argv[1], first + i, atoi(argv[5]), argv[6]);
		printf("%d\n", (int) pid);
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
