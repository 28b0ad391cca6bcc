"""Tools in processes of their own: functions and programs, killed whole."""
