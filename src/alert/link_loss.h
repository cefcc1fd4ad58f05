/*
 * link_loss.h
 *		Alerts for drones that have gone silent.
 */
#ifndef SENTIENT_LINK_LOSS_H
#define SENTIENT_LINK_LOSS_H

/* sentient_edge.alert_check_interval, seconds */
extern int	alert_check_interval;

/* Add the scheduler's job. */
extern void link_loss_init(void);

#endif							/* SENTIENT_LINK_LOSS_H */
