-- An example of what readers put on top of the followed tables: one row a doctor, with the admin and outcome of the
-- newest recommendation. Not run by tidemark; run it yourself once the tables are there.
--
-- More than one doctor document with one GMC number has happened: each keeps its row here.

create or replace view public.master_doctor as
select
    d.id as gmc_number,
    d.first_name,
    d.last_name,
    d.submission_date,
    d.date_added,
    d.under_notice,
    d.sanction,
    d.doctor_status,
    d.designated_body_code,
    d.exists_in_gmc,
    coalesce(r.admin, d.admin) as admin,
    r.recommendation_type,
    r.outcome,
    r.gmc_submission_date,
    greatest(d._applied_at, r._applied_at) as applied_at
from public.doctor d
left join lateral (
    select n.admin, n.recommendation_type, n.outcome, n.gmc_submission_date, n._applied_at
    from public.recommendation n
    where n.gmc_number = d.id
    -- An ObjectId begins with the second it was made in, so the greatest id is the newest.
    order by n.id desc
    limit 1
) r on true;

create index if not exists recommendation_gmc_number on public.recommendation (gmc_number, id desc);
