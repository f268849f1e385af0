-- How many tokens a second did decode make in each epoch?
--
SELECT epoch, sum(tokens), printf('%.0f', sum(tokens) * 1e9 / sum(duration_ns)) FROM v_step WHERE phase = 'decode' GROUP BY epoch ORDER BY epoch;
--
0|9|46970
1|9|46092
