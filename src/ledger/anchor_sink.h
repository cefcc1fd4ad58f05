/*
 * anchor_sink.h
 *		Where digests go.
 */
#ifndef SENTIENT_ANCHOR_SINK_H
#define SENTIENT_ANCHOR_SINK_H

extern void anchor_sink_init(void);

#endif							/* SENTIENT_ANCHOR_SINK_H */
