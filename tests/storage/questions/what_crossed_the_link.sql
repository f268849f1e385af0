-- How many bytes did each kind of copy move?
--
SELECT reason, count, bytes FROM v_transfer ORDER BY reason;
--
demand|71|71000000
prefetch|1|1000000
