-- How many more events may be set aside than an accident brings: a person's word, used up as they
-- are.

alter table checkpoint add column letters_accepted bigint not null default 0;
