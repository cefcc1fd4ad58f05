/*
 * base.h
 *		Start-up of the base layer.
 */
#ifndef SENTIENT_BASE_H
#define SENTIENT_BASE_H

extern void base_init(void);

#endif							/* SENTIENT_BASE_H */
