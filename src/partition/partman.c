/*
 * partman.c
 *		The calls into pg_partman 4.7 and 5.x.
 *
 * Which of them is installed in this database is asked of pg_extension each
 * time: pg_upgrade can carry the objects of 4.7 into a newer server, and ALTER
 * EXTENSION can change them under a session.
 *
 * A table is registered by writing its part_config row here.  create_parent of
 * 4.7 makes a default partition without looking whether there is one, and fails
 * because there is; that of 5.x can be told, but would make its first
 * partitions in one transaction with the locks of all of them.  datetime_string
 * is the same for every interval, because 4.7 sorts a table's partitions by
 * parsing their names with the string that is configured now.
 * Of run_maintenance only the half that retires partitions is called: the other
 * one makes partitions in one transaction, and counts those ahead differently
 * from version to version.  automatic_maintenance is off: these tables have a
 * scheduler of their own, and a pg_partman_bgw beside it would only get in its
 * way.
 *
 * All of this runs as superuser, and pg_partman's functions put their own schema
 * in front of search_path: whoever may create something in that schema, or
 * rename it, could have his code run as superuser.  So pg_partman is left alone
 * unless only superusers can, which is not so for schema public of a database
 * whose owner is none.  Nor are its functions called in a session of anybody but
 * a superuser: PL/pgSQL may have compiled them there before, with types of that
 * user's temporary schema.  What pg_partman is not asked for create.c and
 * steps.c do themselves, but for what the template table adds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "errors.h"
#include "partition/interval.h"
#include "partition/partman.h"

typedef struct Partman
{
	char	   *schema;			/* quoted */
	int			major;
	bool		trusted;		/* only superusers can meddle with what is in the schema */
} Partman;

static Partman partman_installed(void);
static bool partman_is_installed(Partman *partman);
static bool partman_is_callable(const Partman *partman);
static char *template_name(const ManagedTable *table);

/* Find pg_partman in this database; false when it is not there. */
static bool
partman_is_installed(Partman *partman)
{
	bool		isnull;

	if (sql_query("SELECT n.nspname, e.extversion,"
				  " NOT EXISTS (SELECT FROM (SELECT n.nspowner"
				  "   UNION ALL SELECT a.grantee FROM aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE'"
				  "   UNION ALL SELECT p.proowner FROM pg_proc p WHERE p.pronamespace = n.oid"
				  "   UNION ALL SELECT o.oprowner FROM pg_operator o WHERE o.oprnamespace = n.oid) s (role)"
				  "  WHERE NOT EXISTS (SELECT FROM pg_authid r WHERE r.rolsuper AND r.oid ="
				  "   CASE s.role WHEN 'pg_database_owner'::regrole THEN d.datdba ELSE s.role END))"
				  " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
				  " JOIN pg_database d ON d.datname = current_database()"
				  " WHERE e.extname = 'pg_partman'", 0, NULL, NULL) != 1)
		return false;
	partman->schema = pstrdup(quote_identifier(sql_string(0, 0)));
	partman->major = atoi(sql_string(0, 1));
	partman->trusted = DatumGetBool(sql_value(0, 2, &isnull));
	return true;
}

/* May pg_partman's functions be called?  If so, see to it that they find pg_catalog's objects first. */
static bool
partman_is_callable(const Partman *partman)
{
	if (!partman->trusted || (MyBgworkerEntry == NULL && !superuser_arg(GetSessionUserId())))
		return false;

	/* They put their schema before what is in search_path, but not before what is implied. */
	sql_set_local("search_path", "pg_temp");
	return true;
}

static Partman
partman_installed(void)
{
	Partman		partman;

	if (!partman_is_installed(&partman))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"pg_partman\" is not installed in this database"),
				 errhint("CREATE EXTENSION pg_partman.")));
	return partman;
}

bool
partman_registered(const ManagedTable *table)
{
	Partman		partman;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(managed_name(table))};

	if (!partman_is_installed(&partman))
		return false;
	if (!partman.trusted)
		return sql_query("SELECT FROM sentient_edge.managed_tables WHERE table_name = $1 AND registered",
						 1, types, values) > 0;
	return sql_query(psprintf("SELECT FROM %s.part_config WHERE parent_table = $1", partman.schema),
					 1, types, values) > 0;
}

bool
partman_configure(const ManagedTable *table)
{
	Partman		partman = partman_installed();
	const PartitionSettings *settings = managed_settings(table);
	StringInfoData sql;
	const char *week = settings->interval == PARTITION_BY_WEEK ? "week" : NULL;
	char	   *retention = settings->has_retention ?
		DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&settings->retention))) : NULL;
	char	   *template = template_name(table);

	if (!partman.trusted)
	{
		Oid			types[1] = {TEXTOID};
		Datum		values[1] = {CStringGetTextDatum(managed_name(table))};

		return sql_query("UPDATE sentient_edge.managed_tables SET registered = true"
						 " WHERE table_name = $1 AND NOT registered", 1, types, values) > 0;
	}

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "INSERT INTO %s.part_config AS c (parent_table, control, partition_type, partition_interval,"
					 " premake, datetime_string, automatic_maintenance, infinite_time_partitions, ignore_default_data,"
					 " inherit_privileges, retention_keep_table, retention, template_table%s)"
					 " VALUES (%s, %s, %s, %s, %d, 'YYYYMMDD', 'off', true, true, false, %s, %s, %s",
					 partman.schema, partman.major >= 5 ? ", date_trunc_interval" : "",
					 quote_literal_cstr(managed_name(table)), quote_literal_cstr(table->control),
					 partman.major >= 5 ? "'range'" : "'native'",
					 quote_literal_cstr(interval_name(settings->interval)), settings->premake,
					 settings->retention_drop ? "false" : "true",
					 retention ? quote_literal_cstr(retention) : "NULL",
					 template ? quote_literal_cstr(template) : "NULL");
	if (partman.major >= 5)
		appendStringInfo(&sql, ", %s", week ? quote_literal_cstr(week) : "NULL");
	appendStringInfoString(&sql,
						   ") ON CONFLICT (parent_table) DO UPDATE SET partition_interval = EXCLUDED.partition_interval,"
						   " premake = EXCLUDED.premake, retention = EXCLUDED.retention,"
						   " retention_keep_table = EXCLUDED.retention_keep_table,"
						   " datetime_string = EXCLUDED.datetime_string,"
						   " automatic_maintenance = EXCLUDED.automatic_maintenance,"
						   " infinite_time_partitions = EXCLUDED.infinite_time_partitions,"
						   " ignore_default_data = EXCLUDED.ignore_default_data");
	if (partman.major >= 5)
		appendStringInfoString(&sql, ", date_trunc_interval = EXCLUDED.date_trunc_interval");
	appendStringInfoString(&sql,
						   " WHERE (c.partition_interval, c.premake, c.retention, c.retention_keep_table, c.datetime_string,"
						   " c.automatic_maintenance, c.infinite_time_partitions, c.ignore_default_data)"
						   " IS DISTINCT FROM (EXCLUDED.partition_interval, EXCLUDED.premake, EXCLUDED.retention,"
						   " EXCLUDED.retention_keep_table, EXCLUDED.datetime_string, EXCLUDED.automatic_maintenance,"
						   " EXCLUDED.infinite_time_partitions, EXCLUDED.ignore_default_data)");
	return sql_query(sql.data, 0, NULL, NULL) > 0;
}

void
partman_forget(const ManagedTable *table)
{
	Partman		partman;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(managed_name(table))};

	if (partman_is_installed(&partman) && partman.trusted)
		(void) sql_query(psprintf("DELETE FROM %s.part_config WHERE parent_table = $1", partman.schema),
						 1, types, values);
}

bool
partman_create_partition(const ManagedTable *table, TimestampTz lower)
{
	Partman		partman = partman_installed();
	Oid			types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[2] = {CStringGetTextDatum(managed_name(table)), TimestampTzGetDatum(lower)};

	if (!partman_is_callable(&partman))
		return false;
	/* 4.7 would analyze the whole parent. */
	(void) sql_query(psprintf("SELECT %s.create_partition_time($1, ARRAY[$2]%s)", partman.schema,
							  partman.major >= 5 ? "" : ", false"), 2, types, values);
	return true;
}

void
partman_inherit_template(const ManagedTable *table, const char *partition)
{
	Partman		partman = partman_installed();
	Oid			types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3] = {CStringGetTextDatum(managed_name(table)), CStringGetTextDatum(table->schema),
	CStringGetTextDatum(partition)};

	if (template_name(table) != NULL && partman_is_callable(&partman))
		(void) sql_query(psprintf("SELECT %s.inherit_template_properties($1, $2, $3)", partman.schema),
						 3, types, values);
}

bool
partman_can_retire(void)
{
	Partman		partman = partman_installed();

	return partman_is_callable(&partman);
}

void
partman_retire(const ManagedTable *table)
{
	Partman		partman = partman_installed();
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(managed_name(table))};

	if (!partman_is_callable(&partman))
		elog(ERROR, "pg_partman cannot be asked to retire partitions");
	(void) sql_query(psprintf("SELECT %s.drop_partition_time($1)", partman.schema), 1, types, values);
}

/* "telemetry.drone_telemetry_template" if there is such a table. */
static char *
template_name(const ManagedTable *table)
{
	char	   *name = psprintf("%s.%s_template", table->schema, table->name);
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};

	return sql_query("SELECT 1 WHERE to_regclass($1) IS NOT NULL", 1, types, values) > 0 ? name : NULL;
}
