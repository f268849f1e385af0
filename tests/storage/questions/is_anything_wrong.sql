-- Was anything lost or ignored?
--
SELECT code, severity, count, text FROM v_health ORDER BY code;
--
sample.note|info|2|Something worth telling.
