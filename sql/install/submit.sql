--
-- submit: single samples of many sessions, stored by one writer; the telemetry queue.
--

CREATE FUNCTION telemetry.submit(payload jsonb,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_submit';
COMMENT ON FUNCTION telemetry.submit(jsonb) IS
'Stores one sample (a JSON object) or many (an array), together with those of other sessions, in a transaction of the ingest writer''s; returns once that is as durable as synchronous_commit asks. Independent of the caller''s transaction.
The payload is that of telemetry.ingest, of up to sentient_edge.queue_call_samples samples, and so are the counts that are returned and the rejected samples that are kept.
Errors: 22004 payload is null; 22023 payload is neither an object nor an array; 25006 read-only transaction or standby; 53400 the queue stayed full for sentient_edge.queue_wait, nothing was queued; 54000 more samples than sentient_edge.queue_call_samples, nothing was queued; 55000 the library is not preloaded; 55P03 a lock was not to be had; 40P01 the writer waits for this transaction''s own locks; 08007 stopped while waiting, safe to send again. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.submit_sample(
    drone_id             uuid,
    recorded_at          timestamptz,
    latitude             double precision DEFAULT NULL,
    longitude            double precision DEFAULT NULL,
    altitude_m           double precision DEFAULT NULL,
    relative_altitude_m  double precision DEFAULT NULL,
    battery_percentage   double precision DEFAULT NULL,
    battery_voltage_v    double precision DEFAULT NULL,
    ground_speed_ms      double precision DEFAULT NULL,
    vertical_speed_ms    double precision DEFAULT NULL,
    heading_deg          double precision DEFAULT NULL,
    roll_deg             double precision DEFAULT NULL,
    pitch_deg            double precision DEFAULT NULL,
    temperature_c        double precision DEFAULT NULL,
    signal_strength_dbm  double precision DEFAULT NULL,
    gps_satellites       integer DEFAULT NULL,
    gps_fix              integer DEFAULT NULL,
    flight_mode          text DEFAULT NULL,
    extra                jsonb DEFAULT NULL,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_submit_sample';
COMMENT ON FUNCTION telemetry.submit_sample(uuid, timestamptz, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, integer, integer, text, jsonb) IS
'Stores one sample like telemetry.submit, from typed arguments, which suits prepared statements. Units and ranges are those of the columns of telemetry.drone_telemetry; NULL is unknown.
Returns accepted, duplicate and rejected, one of which is 1. Errors: those of telemetry.submit. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.queue_statistics(
    OUT depth integer, OUT writer_pid integer, OUT writer_restarts bigint, OUT batches bigint, OUT requests bigint,
    OUT samples bigint, OUT samples_per_batch double precision, OUT rejected bigint, OUT failed bigint,
    OUT wait_p50_ms double precision, OUT wait_p99_ms double precision)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'telemetry_queue_stats';
COMMENT ON FUNCTION telemetry.queue_statistics() IS
'Figures of this database''s telemetry queue since the server''s start; the view telemetry.queue_stats shows them.
Errors: 55000 the library is not preloaded. May be called by sentient_viewer and above.';

CREATE VIEW telemetry.queue_stats AS SELECT * FROM telemetry.queue_statistics();
COMMENT ON VIEW telemetry.queue_stats IS 'The telemetry queue of this database since the server''s start';
COMMENT ON COLUMN telemetry.queue_stats.depth IS 'Requests that wait for the writer now';
COMMENT ON COLUMN telemetry.queue_stats.writer_pid IS 'Process of the ingest writer; NULL while none runs';
COMMENT ON COLUMN telemetry.queue_stats.writer_restarts IS 'How often a writer was started again';
COMMENT ON COLUMN telemetry.queue_stats.batches IS 'Transactions of the writer';
COMMENT ON COLUMN telemetry.queue_stats.requests IS 'Calls that were answered';
COMMENT ON COLUMN telemetry.queue_stats.samples IS 'Samples in these transactions';
COMMENT ON COLUMN telemetry.queue_stats.samples_per_batch IS 'Samples in a transaction on average';
COMMENT ON COLUMN telemetry.queue_stats.rejected IS 'Samples that were rejected';
COMMENT ON COLUMN telemetry.queue_stats.failed IS 'Calls that ended with an error';
COMMENT ON COLUMN telemetry.queue_stats.wait_p50_ms IS 'Half of the calls were answered within this time, to a power of two, ms';
COMMENT ON COLUMN telemetry.queue_stats.wait_p99_ms IS '99 of 100 calls were answered within this time, to a power of two, ms';

GRANT EXECUTE ON FUNCTION telemetry.submit(jsonb), telemetry.submit_sample(uuid, timestamptz, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, integer, integer, text, jsonb) TO sentient_operator;
GRANT EXECUTE ON FUNCTION telemetry.queue_statistics() TO sentient_viewer;
GRANT SELECT ON telemetry.queue_stats TO sentient_viewer;
