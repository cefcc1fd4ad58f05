/*
 * ingest_json.h
 *		Samples out of JSON values.
 */
#ifndef SENTIENT_INGEST_JSON_H
#define SENTIENT_INGEST_JSON_H

#include "telemetry/ingest.h"

typedef struct JsonReader JsonReader;

/*
 * A reader that adds what it reads to the batch.  What it has read must live
 * until the batch is finished.
 */
extern JsonReader *json_reader_create(IngestBatch *batch);

/* Read one sample; a value that is none is rejected. */
extern void json_reader_read(JsonReader *reader, Jsonb *jsonb);

/* Read one sample, or an array of them. */
extern void json_reader_read_all(JsonReader *reader, Jsonb *jsonb);

/* Argument 0, an object or an array; anything else is an error. */
extern Jsonb *json_payload_argument(FunctionCallInfo fcinfo);

#endif							/* SENTIENT_INGEST_JSON_H */
