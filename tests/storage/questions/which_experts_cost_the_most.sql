-- Which three experts moved the most bytes over the link?
--
SELECT layer, expert, sum(bytes) AS bytes FROM v_copy WHERE lane = 'h2d' GROUP BY layer, expert ORDER BY bytes DESC, layer, expert LIMIT 3;
--
1|7|7000000
0|1|6000000
0|4|6000000
