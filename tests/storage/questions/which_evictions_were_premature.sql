-- How many experts were evicted without having been used?
--
SELECT reason, count(*) FROM v_residency WHERE change <> 'loaded' AND used = 0 GROUP BY reason ORDER BY reason;
--
prefetch|1
