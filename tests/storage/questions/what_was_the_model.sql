-- Which model was this, and under which policy did it start?
--
SELECT (SELECT value FROM session WHERE key = 'model.name'), (SELECT value FROM session WHERE key = 'start.policy_spec');
--
sample|on-demand
