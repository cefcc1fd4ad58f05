/*
 * key_admin.c
 *		What an administrator does with data keys: look, rotate, wrap anew, destroy.
 *
 * rotate_data_key works in a process of its own (key_worker.c), the others in the
 * caller's transaction, under ShareRowExclusiveLock on sentient_edge.data_keys:
 * all or nothing, and none beside another.  Clear keys exist for an instant only,
 * in which no error can be raised.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/sql.h"
#include "crypto/data_key_cache.h"
#include "crypto/key_events.h"
#include "crypto/key_row.h"
#include "crypto/key_usage.h"
#include "crypto/key_users.h"
#include "crypto/key_worker.h"
#include "crypto/secret.h"
#include "errors.h"

PG_FUNCTION_INFO_V1(data_keys_changed);
PG_FUNCTION_INFO_V1(key_status);
PG_FUNCTION_INFO_V1(rotate_data_key);
PG_FUNCTION_INFO_V1(rotate_master_key);
PG_FUNCTION_INFO_V1(destroy_data_key);

/* AFTER statement trigger of sentient_edge.data_keys: every backend reads it again. */
Datum
data_keys_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("data_keys_changed must be called as a trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}

/* The extension's own table; nobody else changes it until the transaction ends. */
static void
lock_keys(void)
{
	PreventCommandIfReadOnly("changing data keys");
	PreventCommandIfParallelMode("changing data keys");
	/* All keys, and all values that need one, must be in sight. */
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("data keys can be changed only in a transaction of isolation level READ COMMITTED")));
	(void) sql_query("LOCK TABLE sentient_edge.data_keys IN SHARE ROW EXCLUSIVE MODE", 0, NULL, NULL);
}

/* One row of the query's result; it begins with the columns of KEY_ROW_COLUMNS. */
static bool
decode_result(uint64 number, KeyRow *row)
{
	Datum		values[KEY_ROW_NATTS];
	bool		nulls[KEY_ROW_NATTS];

	for (int i = 0; i < KEY_ROW_NATTS; i++)
		values[i] = sql_value(number, i, &nulls[i]);
	return key_row_decode(values, nulls, row);
}

/* ---- looking ---- */

#define STATUS_COLUMNS	11

static void
put_master_keys(ReturnSetInfo *result)
{
	for (int i = 0; i < master_key_count(); i++)
	{
		const MasterKey *master = master_key(i);
		Datum		values[STATUS_COLUMNS] = {0};
		bool		nulls[STATUS_COLUMNS];

		memset(nulls, true, sizeof(nulls));
		values[0] = CStringGetTextDatum("master key");
		values[3] = CStringGetTextDatum(i == 0 ? "active" : "decrypt_only");
		values[4] = CStringGetTextDatum(master->fingerprint);
		values[5] = CStringGetTextDatum(master->source);
		nulls[0] = nulls[3] = nulls[4] = nulls[5] = false;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (master_key_count() == 0)
	{
		Datum		values[STATUS_COLUMNS] = {0};
		bool		nulls[STATUS_COLUMNS];
		const char *problem = master_key_problem();

		memset(nulls, true, sizeof(nulls));
		values[0] = CStringGetTextDatum("master key");
		values[3] = CStringGetTextDatum("missing");
		values[10] = CStringGetTextDatum(problem[0] == '\0' ? "sentient_edge is not preloaded" : problem);
		nulls[0] = nulls[3] = nulls[10] = false;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* What is wrong with a key, or NULL. */
static char *
key_problem(const KeyRow *row)
{
	uint8	   *key;
	UnwrapResult unwrapped;

	if (row->state == KEY_DESTROYED)
		return NULL;
	if (master_key_count() == 0)
		return "no master key is known to this server";
	key = secret_new();
	if (key == NULL)
		return "no protected memory is left to try it";
	unwrapped = key_row_unwrap(row, key);
	secret_free(key);
	switch (unwrapped)
	{
		case UNWRAP_DONE:
			return strcmp(row->fingerprint, master_key(0)->fingerprint) == 0 ? NULL :
				"not wrapped by the active master key; call sentient_edge.rotate_master_key()";
		case UNWRAP_UNKNOWN_MASTER:
			return psprintf("wrapped by the master key %s, which this server does not have", row->fingerprint);
		case UNWRAP_DAMAGED:
			return "its row was changed or exchanged";
	}
	return NULL;
}

/* sentient_edge.key_status(): the master keys of the server and the data keys of the database. */
Datum
key_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SqlScope	scope;
	uint64		nrows;

	InitMaterializedSRF(fcinfo, 0);
	put_master_keys(result);
	scope = sql_begin(0);
	nrows = sql_query("SELECT " KEY_ROW_COLUMNS ", rotated_at, destroyed_at, reserved_messages "
					  "FROM sentient_edge.data_keys ORDER BY purpose, created_at, key_id", 0, NULL, NULL);
	for (uint64 i = 0; i < nrows; i++)
	{
		Datum		values[STATUS_COLUMNS];
		bool		nulls[STATUS_COLUMNS] = {false};
		KeyRow		row;
		KeyUsage	usage;
		char	   *problem;

		if (!decode_result(i, &row))
			continue;
		problem = key_problem(&row);
		values[0] = CStringGetTextDatum("data key");
		values[1] = UUIDPGetDatum(&row.id);
		values[2] = CStringGetTextDatum(key_purpose_name(row.purpose));
		values[3] = CStringGetTextDatum(key_state_name(row.state));
		values[4] = CStringGetTextDatum(row.fingerprint);
		nulls[5] = true;
		values[6] = TimestampTzGetDatum(row.created_at);
		values[7] = sql_value(i, KEY_ROW_NATTS, &nulls[7]);
		values[8] = sql_value(i, KEY_ROW_NATTS + 1, &nulls[8]);
		values[9] = sql_value(i, KEY_ROW_NATTS + 2, &nulls[9]);
		if (key_usage_get(&row.id, &usage))
			values[9] = Int64GetDatum(usage.used);
		nulls[10] = problem == NULL;
		values[10] = problem == NULL ? (Datum) 0 : CStringGetTextDatum(problem);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	sql_end(&scope);
	return (Datum) 0;
}

/* ---- rotating ---- */

/* sentient_edge.rotate_data_key(purpose): a new active key; the one before it still decrypts. */
Datum
rotate_data_key(PG_FUNCTION_ARGS)
{
	char	   *name;
	KeyPurpose	purpose;
	pg_uuid_t	replaced;
	pg_uuid_t  *made = palloc(sizeof(pg_uuid_t));
	bool		existed;

	sql_refuse_nulls(fcinfo, "sentient_edge.rotate_data_key");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!key_purpose_find(name, &purpose))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are no data keys for \"%s\"", name),
				 errhint("Purposes are field, search, audit_mac, ledger and token.")));
	PreventCommandDuringRecovery("sentient_edge.rotate_data_key()");
	data_keys_require();

	data_key_forget();
	existed = data_key_active_row(purpose, &replaced);
	key_worker_make(purpose, existed ? &replaced : NULL);
	data_key_forget();
	if (!data_key_active_row(purpose, made) ||
		(existed && memcmp(made, &replaced, sizeof(replaced)) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not make a data key for \"%s\"", name),
				 errhint("See the server log for what its key worker says. A transaction that holds a lock on sentient_edge.data_keys keeps it from working.")));
	if (key_event_hook != NULL)
		key_event_hook("key_rotated", made);
	PG_RETURN_UUID_P(made);
}

/* Wrap a key anew; its clear bytes do not outlive the call. */
static UnwrapResult
wrap_again(KeyRow *row)
{
	uint8	   *key = secret_new();
	UnwrapResult result = UNWRAP_DAMAGED;
	bool		wrapped = false;

	if (key != NULL)
	{
		result = key_row_unwrap(row, key);
		wrapped = result == UNWRAP_DONE && key_row_wrap(row, master_key(0), key);
		secret_free(key);
	}
	if (key == NULL || (result == UNWRAP_DONE && !wrapped))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not wrap a data key"),
				 errdetail("OpenSSL has failed, or no protected memory is left.")));
	return result;
}

static void
store_wrapped(const KeyRow *row)
{
	Oid			types[] = {UUIDOID, TEXTOID, BYTEAOID};
	bytea	   *wrapped = palloc(VARHDRSZ + sizeof(row->wrapped));
	Datum		values[] = {UUIDPGetDatum(&row->id), CStringGetTextDatum(row->fingerprint), PointerGetDatum(wrapped)};

	SET_VARSIZE(wrapped, VARHDRSZ + sizeof(row->wrapped));
	memcpy(VARDATA(wrapped), row->wrapped, sizeof(row->wrapped));
	(void) sql_query("UPDATE sentient_edge.data_keys SET master_fingerprint = $2, wrapped_key = $3 WHERE key_id = $1",
					 lengthof(types), types, values);
}

/* sentient_edge.rotate_master_key(): wrap by the active master key what another one wraps. */
Datum
rotate_master_key(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	KeyRow	   *rows;
	uint64		nrows;
	int32		count = 0;
	SqlScope	scope;

	PreventCommandDuringRecovery("sentient_edge.rotate_master_key()");
	data_keys_require();
	values[0] = CStringGetTextDatum(master_key(0)->fingerprint);

	scope = sql_begin(0);
	lock_keys();
	nrows = sql_query("SELECT " KEY_ROW_COLUMNS " FROM sentient_edge.data_keys "
					  "WHERE state <> 'destroyed' AND master_fingerprint <> $1 ORDER BY key_id", 1, types, values);
	rows = palloc(Max(nrows, 1) * sizeof(KeyRow));
	for (uint64 i = 0; i < nrows; i++)
	{
		if (decode_result(i, &rows[count]))
			count++;
	}
	for (int i = 0; i < count; i++)
	{
		char		before[FINGERPRINT_LENGTH + 1];

		strlcpy(before, rows[i].fingerprint, sizeof(before));
		switch (wrap_again(&rows[i]))
		{
			case UNWRAP_DONE:
				break;
			case UNWRAP_UNKNOWN_MASTER:
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("data key %s is wrapped by a master key that this server does not have", key_id_text(&rows[i].id)),
						 errdetail("The fingerprint of that master key is %s.", before),
						 errhint("Provide that master key after the active one and restart the server; or give the data key up with sentient_edge.destroy_data_key().")));
				break;
			case UNWRAP_DAMAGED:
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("data key %s does not unwrap", key_id_text(&rows[i].id)),
						 errdetail("Its row in sentient_edge.data_keys was changed or exchanged."),
						 errhint("Restore the row from a backup; or give the data key up with sentient_edge.destroy_data_key().")));
				break;
		}
		store_wrapped(&rows[i]);
		if (key_event_hook != NULL)
			key_event_hook("key_wrapped", &rows[i].id);
	}
	sql_end(&scope);
	PG_RETURN_INT32(count);
}

/* ---- destroying ---- */

/* Raise an error unless it is proved that nothing needs the key. */
static void
prove_unused(const KeyRow *row)
{
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&row->id)};
	char	   *places;
	int64		users;

	if (row->state == KEY_ACTIVE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("data key %s is the active key for \"%s\"", key_id_text(&row->id), key_purpose_name(row->purpose)),
				 errhint("Call sentient_edge.rotate_data_key('%s') first.", key_purpose_name(row->purpose))));

	/* Who began before the key was retired may hold a value that is yet to be stored. */
	if (sql_query("SELECT FROM pg_stat_activity a, sentient_edge.data_keys k "
				  "WHERE k.key_id = $1 AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start <= k.rotated_at "
				  "UNION ALL SELECT FROM pg_prepared_xacts p, sentient_edge.data_keys k "
				  "WHERE k.key_id = $1 AND p.database = current_database()", 1, types, values) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("data key %s may be in use by transactions that began before it was retired", key_id_text(&row->id)),
				 errhint("Wait until they, and all prepared transactions, have ended.")));

	users = key_users_count(&row->id, row->purpose, &places);
	if (users > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("data key %s is needed by " INT64_FORMAT " stored values", key_id_text(&row->id), users),
				 errdetail("They are in %s.", places),
				 errhint("Call sentient_edge.reencrypt() for these columns first; or destroy the key, and with it these values, with force => true.")));
}

/* sentient_edge.destroy_data_key(key_id, force): whether it was there to be destroyed. */
Datum
destroy_data_key(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *key_id;
	bool		force;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	KeyRow		row;
	SqlScope	scope;

	sql_refuse_nulls(fcinfo, "sentient_edge.destroy_data_key");
	key_id = PG_GETARG_UUID_P(0);
	force = PG_GETARG_BOOL(1);
	values[0] = UUIDPGetDatum(key_id);
	PreventCommandDuringRecovery("sentient_edge.destroy_data_key()");
	scope = sql_begin(0);
	lock_keys();
	if (sql_query("SELECT " KEY_ROW_COLUMNS " FROM sentient_edge.data_keys WHERE key_id = $1", 1, types, values) == 0 ||
		!decode_result(0, &row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no data key %s", key_id_text(key_id))));
	if (row.state == KEY_DESTROYED)
	{
		sql_end(&scope);
		PG_RETURN_BOOL(false);
	}
	if (!force)
		prove_unused(&row);
	(void) sql_query("UPDATE sentient_edge.data_keys SET state = 'destroyed', wrapped_key = NULL, destroyed_at = now() "
					 "WHERE key_id = $1", 1, types, values);
	if (key_event_hook != NULL)
		key_event_hook("key_destroyed", key_id);
	sql_end(&scope);
	PG_RETURN_BOOL(true);
}
