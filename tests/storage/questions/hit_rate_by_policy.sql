-- What was the hit rate of decode under each policy?
--
SELECT s.policy, printf('%.3f', avg(d.state = 'hit')) FROM v_demand d JOIN v_step s USING (step) WHERE d.phase = 'decode' GROUP BY s.policy ORDER BY s.epoch;
--
on-demand|0.250
lfu|0.250
