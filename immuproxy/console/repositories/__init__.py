"""All repositories, and the tags of one."""
