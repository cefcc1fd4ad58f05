/*
 * row_trigger.c
 *		The trigger that captures changed rows.
 *
 * AFTER ROW, so that it sees what was stored, whatever triggers did to the row
 * before; made by audit.enable for INSERT, UPDATE and DELETE, and cloned by
 * PostgreSQL to partitions present and future.  COPY, MERGE, ON CONFLICT, cascades
 * and changes by a replication worker come here like any others.  A row that
 * moves to another partition is a D and an I, as for PostgreSQL.  Runs as whoever
 * changes the row, who needs no privilege for it.  Takes no locks; capture.c
 * writes the entries.
 *
 * Rows that maintenance moves from a default partition to their own are not
 * changed, and those of the extension's scripts come with its version.
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "capture/capture.h"
#include "capture/image.h"
#include "capture/targets.h"
#include "partition/partition.h"

PG_FUNCTION_INFO_V1(audit_capture_row);

Datum
audit_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleTableSlot *slot;
	Target	   *target;
	Jsonb	   *key;
	Jsonb	   *before = NULL;
	Jsonb	   *after = NULL;
	char		operation;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("capture_row must be an AFTER ROW trigger")));
	if (partition_housekeeping() || creating_extension)
		return PointerGetDatum(NULL);

	target = target_get(trigger->tg_relation, trigger->tg_trigger);
	slot = trigger->tg_trigslot;
	slot_getallattrs(slot);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		TupleTableSlot *old = slot;

		operation = 'U';
		slot = trigger->tg_newslot;
		slot_getallattrs(slot);
		if (!image_changes(target->shape, old->tts_values, old->tts_isnull,
						   slot->tts_values, slot->tts_isnull, &before, &after))
			return PointerGetDatum(NULL);
	}
	else if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		operation = 'I';
		after = image_row(target->shape, slot->tts_values, slot->tts_isnull);
	}
	else
	{
		operation = 'D';
		before = image_row(target->shape, slot->tts_values, slot->tts_isnull);
	}

	/* Of a row whose key changed it is the new one; before holds the old. */
	key = image_key(target->shape, slot->tts_values, slot->tts_isnull);
	capture_add(operation, target->schema_name, target->table_name, key, before, after);
	return PointerGetDatum(NULL);
}
