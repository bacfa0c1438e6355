"""The two-stage engine: a detector finds objects, a ResNet classifies them; together they are one detector."""
