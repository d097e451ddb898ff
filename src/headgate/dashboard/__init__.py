"""Pages for people, in English and Chinese. Imported when somebody asks for one, never by a served call."""
