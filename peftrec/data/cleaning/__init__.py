"""Rules for rows, shoppers and products, what they drop and repair, and the report that accounts for every row."""
