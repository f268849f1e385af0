-- How long did the first three generated tokens of decode wait for demand copies?
--
SELECT t.position, t.text, (SELECT sum(duration_ns) FROM v_work w WHERE w.step = t.step AND w.kind = 'wait_demand') AS wait_ns
FROM v_token t JOIN v_step s ON s.step = t.step WHERE t.generated = 1 AND s.phase = 'decode' ORDER BY t.position LIMIT 3;
--
1| w202|15000
2| w203|10000
3| w203|20000
