"""The two-stage pipeline: a detector finds objects, a ResNet tells the class of each; together they are a detector."""
