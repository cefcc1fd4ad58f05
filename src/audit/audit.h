/*
 * audit.h
 *		Start-up of the audit module.
 */
#ifndef SENTIENT_AUDIT_H
#define SENTIENT_AUDIT_H

extern void audit_init(void);

#endif							/* SENTIENT_AUDIT_H */
