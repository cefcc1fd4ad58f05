/*
 * reencrypt.c
 *		What SQL asks of re-encryption: sentient_edge.reencrypt, reencrypt_pause,
 *		reencrypt_resume.
 *
 * They only write rows of sentient_edge.reencryptions, as the extension's owner,
 * and wake the scheduler once the transaction has committed.  The work is that
 * of reencrypt_worker.c.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/sql.h"
#include "compat.h"
#include "crypto/data_key.h"
#include "errors.h"
#include "sealed/reencrypt.h"

PG_FUNCTION_INFO_V1(reencrypt_request);
PG_FUNCTION_INFO_V1(reencrypt_pause);
PG_FUNCTION_INFO_V1(reencrypt_resume);

int			reencrypt_batch_rows = 1000;
int			reencrypt_delay = 0;

void
reencrypt_init(void)
{
	DefineCustomIntVariable("sentient_edge.reencrypt_batch_rows",
							"How many values re-encryption changes in one transaction.",
							"Sessions that change the same rows wait as long as such a transaction takes.",
							&reencrypt_batch_rows, 1000, 1, 100000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.reencrypt_delay",
							"Pause between two transactions of re-encryption.",
							"A longer one leaves more of the machine to others.",
							&reencrypt_delay, 0, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	reencrypt_worker_init();
}

/*
 * The columns that a trigger of require_context names for the column, as an
 * array of names, or the null Datum.
 */
static ArrayType *
find_context_columns(Relation rel, const char *column)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		char	   *function = get_func_name(trigger->tgfoid);
		Datum	   *names;

		if (function == NULL || strcmp(function, "require_context") != 0 ||
			strcmp(get_namespace_name(get_func_namespace(trigger->tgfoid)), "sentient_edge") != 0 ||
			trigger->tgnargs < 2 || strcmp(trigger->tgargs[0], column) != 0)
			continue;
		names = palloc(sizeof(Datum) * trigger->tgnargs);
		for (int n = 1; n < trigger->tgnargs; n++)
			names[n - 1] = DirectFunctionCall1(namein, CStringGetDatum(trigger->tgargs[n]));
		return DatumGetArrayTypeP(sql_array(names, NULL, trigger->tgnargs - 1, NAMEOID));
	}
	return NULL;
}

/* Every one of them must be a column of the table. */
static void
check_context_columns(Relation rel, ArrayType *columns)
{
	Datum	   *names;
	bool	   *nulls;
	int			n;

	deconstruct_array(columns, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, &nulls, &n);
	if (n == 0 || ARR_NDIM(columns) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("context_columns must name one column or more")));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("context_columns must not contain nulls")));
		if (get_attnum(RelationGetRelid(rel), NameStr(*DatumGetName(names[i]))) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist",
							NameStr(*DatumGetName(names[i])), RelationGetRelationName(rel))));
	}
}

/* Is it a column of sealed values, and may the caller ask for it? */
static void
check_target(Relation rel, const char *column)
{
	Oid			relid = RelationGetRelid(rel);
	AttrNumber	attribute = get_attnum(relid, column);
	char		relkind = rel->rd_rel->relkind;

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel))));
	if (attribute <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", column, RelationGetRelationName(rel))));
	if (get_atttype(relid, attribute) != reencrypt_type())
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is not of type sealed", column, RelationGetRelationName(rel))));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck(relid, attribute, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(relkind), RelationGetRelationName(rel));
	if (rel->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is a partition", RelationGetRelationName(rel)),
				 errhint("Re-encrypt the partitioned table.")));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is temporary", RelationGetRelationName(rel)),
				 errdetail("No worker can read it.")));
}

/* Is there something that a changed envelope would break?  Runs in a scope of sql_begin. */
static void
check_obstacles(Relation rel, const char *column)
{
	Oid			types[] = {OIDOID, INT2OID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(rel)),
	Int16GetDatum(get_attnum(RelationGetRelid(rel), column))};

	if (sql_query("SELECT 'it is part of a foreign key' FROM pg_constraint"
				  " WHERE contype = 'f' AND (conrelid = $1 AND $2 = ANY (conkey) OR confrelid = $1 AND $2 = ANY (confkey)) "
				  "UNION ALL SELECT 'it is part of a deferrable constraint' FROM pg_constraint"
				  " WHERE conrelid = $1 AND condeferrable AND contype IN ('u', 'p', 'x') AND $2 = ANY (conkey) "
				  "UNION ALL SELECT 'it is part of the partition key' FROM pg_partitioned_table"
				  " WHERE partrelid = $1 AND $2 = ANY (partattrs::int2[]) "
				  "UNION ALL SELECT 'it is generated' FROM pg_attribute"
				  " WHERE attrelid = $1 AND attnum = $2 AND attgenerated <> '' "
				  "UNION ALL SELECT 'a partition is a foreign table' FROM pg_partition_tree($1::regclass) t"
				  " JOIN pg_class c ON c.oid = t.relid WHERE c.relkind = 'f' LIMIT 1",
				  2, types, values) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of table \"%s\" cannot be re-encrypted: %s",
						column, RelationGetRelationName(rel), sql_string(0, 0))));
}

/* sentient_edge.reencrypt(regclass, name, name[]) */
Datum
reencrypt_request(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, NAMEOID, NAMEARRAYOID};
	Datum		values[3];
	Relation	rel;
	char	   *column;
	ArrayType  *keys;
	SqlScope	scope;
	pg_uuid_t  *id;
	bool		isnull;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target and column_name must not be null")));
	column = NameStr(*PG_GETARG_NAME(1));
	rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", PG_GETARG_OID(0))));
	check_target(rel, column);
	keys = PG_ARGISNULL(2) ? find_context_columns(rel, column) : PG_GETARG_ARRAYTYPE_P(2);
	if (keys == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("it is not known what the values of column \"%s\" of table \"%s\" are bound to",
						column, RelationGetRelationName(rel)),
				 errhint("Give the table a trigger of sentient_edge.require_context, or name the columns in context_columns.")));
	check_context_columns(rel, keys);

	/* Raises the one clear error where there is no key. */
	(void) data_key_active(KEY_FIELD);

	scope = sql_begin(0);
	check_obstacles(rel, column);
	values[0] = CStringGetTextDatum(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
															   RelationGetRelationName(rel)));
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PointerGetDatum(keys);
	if (sql_query("INSERT INTO sentient_edge.reencryptions (table_name, column_name, context_columns)"
				  " VALUES ($1, $2, $3) ON CONFLICT (table_name, column_name) WHERE state <> 'finished' DO NOTHING"
				  " RETURNING reencryption_id", 3, types, values) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("column \"%s\" of table \"%s\" is being re-encrypted already",
						column, RelationGetRelationName(rel)),
				 errhint("See sentient_edge.reencrypt_progress; sentient_edge.reencrypt_resume lets one go on that has been paused or has failed.")));
	id = SPI_palloc(sizeof(pg_uuid_t));
	*id = *DatumGetUUIDP(sql_value(0, 0, &isnull));
	sql_end(&scope);
	relation_close(rel, NoLock);
	reencrypt_wanted();
	PG_RETURN_UUID_P(id);
}

/* Change the state of a re-encryption that is in one of these states. */
static void
change_state(Datum id, const char *command, const char *wanted)
{
	Oid			types[] = {UUIDOID};
	SqlScope	scope = sql_begin(0);

	if (sql_query("SELECT FROM sentient_edge.reencryptions WHERE reencryption_id = $1", 1, types, &id) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no re-encryption with this id")));
	if (sql_query(command, 1, types, &id) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the re-encryption is not %s", wanted),
				 errhint("See sentient_edge.reencrypt_progress.")));
	sql_end(&scope);
}

/* sentient_edge.reencrypt_pause(uuid) */
Datum
reencrypt_pause(PG_FUNCTION_ARGS)
{
	sql_refuse_nulls(fcinfo, "sentient_edge.reencrypt_pause");
	change_state(PG_GETARG_DATUM(0),
				 "UPDATE sentient_edge.reencryptions SET state = 'paused'"
				 " WHERE reencryption_id = $1 AND state = 'running'", "running");
	PG_RETURN_VOID();
}

/* sentient_edge.reencrypt_resume(uuid): what has failed begins with a new pass. */
Datum
reencrypt_resume(PG_FUNCTION_ARGS)
{
	sql_refuse_nulls(fcinfo, "sentient_edge.reencrypt_resume");
	change_state(PG_GETARG_DATUM(0),
				 "UPDATE sentient_edge.reencryptions SET state = 'running', error = NULL, phase = 'converting',"
				 " position_table = CASE state WHEN 'paused' THEN position_table END"
				 " WHERE reencryption_id = $1 AND state IN ('paused', 'failed')", "paused or failed");
	reencrypt_wanted();
	PG_RETURN_VOID();
}
